"""The tokens of every method at fixed seeds, to hold a change of the code against.

    python -m tests.fixed_seed_record            compares with tests/fixtures/fixed_seed_tokens.json
    python -m tests.fixed_seed_record --write    writes that file anew

The file holds new tokens and block counts of every method on the pair that ships, greedy and at
T = 0.7 with top-p 0.9, with batches of 1 and of 3 prompts, and at T = 0.7 on a mesh of 2 x 2
devices. The seed fixes the draws, so every machine gives these tokens, up to float32 rounding of
the logits. A difference is compared again in float64: it is a tie if the float64 runs agree with
the file, and a defect if they do not.
"""

import argparse
import json
import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

import jax

import rsd_jax
from rsd_jax.testing.tiny_llama import in_float64

_PATH = pathlib.Path(__file__).parent / "fixtures/fixed_seed_tokens.json"
_METHODS = {
    "ar": {},
    "sd": {"length": 4},
    "spectr": {"num_drafts": 3, "length": 4},
    "rsd_c": {"branching": (2, 2, 1, 1)},
    "rsd_s": {"width": 4, "length": 4},
    "swift": {"length": 6},
    "self_sd": {"length": 3},
    "self_spectr": {"num_drafts": 2, "length": 3},
    "self_rsd_c": {"branching": (2, 2, 1)},
    "self_rsd_s": {"width": 3, "length": 3},
}
_WARPS = {"greedy": {"temperature": 0.0}, "sampled": {"temperature": 0.7, "top_p": 0.9}}
_TEXTS = ("import os\n", "class Queue:\n    def __init__(self", "Translate: drei sieben null\n")
_NEW_TOKENS = 24
# case: (warp, prompts, mesh)
_CASES = {
    "greedy, batch 1": ("greedy", 1, None),
    "greedy, batch 3": ("greedy", 3, None),
    "sampled, batch 1": ("sampled", 1, None),
    "sampled, batch 3": ("sampled", 3, None),
    "sampled, batch 3, mesh 2x2": ("sampled", 3, (2, 2)),
}


def _pairs(shape):
    mesh = None if shape is None else jax.make_mesh(shape, ("data", "model"))
    return rsd_jax.load_pair("quickstart", mesh=mesh)


def _decode(name, case, target, draft, tokenizer):
    warp, rows, _ = _CASES[case]
    method = rsd_jax.build_method(name, **_METHODS[name])
    prompts = [tokenizer(text).input_ids for text in _TEXTS[:rows]]
    needs_draft = method.drafter.needs_draft_model
    result = rsd_jax.generate(
        method,
        target,
        draft if needs_draft else None,
        prompts,
        seed=11,
        max_new_tokens=_NEW_TOKENS,
        eos_id=tokenizer.eos_token_id,
        **_WARPS[warp],
    )
    return {"tokens": result.tokens, "blocks": result.stats.blocks.tolist()}


def record(shape=None, wide=False):
    """By case and method: tokens and block counts of the cases on a mesh of `shape`."""
    pair = _pairs(shape)
    models = (pair.target, pair.draft)
    if wide:
        models = tuple(in_float64(model) for model in models)
    return {
        case: {name: _decode(name, case, *models, pair.tokenizer) for name in _METHODS}
        for case, (_, _, mesh) in _CASES.items()
        if mesh == shape
    }


def _all(wide=False):
    shapes = dict.fromkeys(mesh for _, _, mesh in _CASES.values())
    return {case: found for shape in shapes for case, found in record(shape, wide).items()}


def _differences(known, found):
    return [
        f"{case}, {name}"
        for case in known
        for name in known[case]
        if known[case][name] != found[case][name]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the file anew")
    write = parser.parse_args().write
    found = {"float32": _all()}
    known = None if write else json.loads(_PATH.read_text(encoding="utf-8"))
    different = [] if known is None else _differences(known["float32"], found["float32"])
    if write or different:
        with jax.enable_x64(True):
            found["float64"] = _all(wide=True)
    if write:
        _PATH.write_text(json.dumps(found) + "\n", encoding="utf-8")
        return 0
    if not different:
        print(f"all {sum(map(len, known['float32'].values()))} runs as recorded, in float32")
        return 0
    print("other tokens in float32:", *different, sep="\n  ")
    defects = _differences(known["float64"], found["float64"])
    print("other tokens in float64:", *(defects or ["none: ties"]), sep="\n  ")
    return int(bool(defects))


if __name__ == "__main__":
    sys.exit(main())
