"""The tokens of every method at fixed seeds, to compare commits.

    python -m tests.fixed_seed_record            compares with tests/fixtures/fixed_seed_tokens.json
    python -m tests.fixed_seed_record --write    writes that file anew

The file holds new tokens and block counts of every method on a tiny pair, greedy and at T = 0.7
with top-p 0.9, with batches of 1 and of 3 prompts, and at T = 0.7 on a mesh of 2 x 2 devices. The
seed fixes the draws, so every machine gives these tokens, up to float32 rounding of the logits.

To tell a tie from a defect, run both commits in float64: `--float64 --write --file=FILE` in one
commit, `--float64 --file=FILE` in the other. In float64 the commits must agree.
"""

import argparse
import functools
import json
import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

import flax.traverse_util
import jax
import numpy as np

import rsd_jax
from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import LoadedModel
from rsd_jax.models.families import family_of
from rsd_jax.testing.tiny_llama import tiny_pair

_PATH = pathlib.Path(__file__).parent / "fixtures/fixed_seed_tokens.json"
_METHODS = {
    "ar": {},
    "sd": {"length": 4},
    "spectr": {"num_drafts": 3, "length": 4},
    "rsd_c": {"branching": (2, 2, 1, 1)},
    "rsd_s": {"width": 4, "length": 4},
    "swift": {"length": 6, "stop_below": 0.2, "confidences": (0.8, 0.5, 0.2)},
    "self_sd": {"length": 3},
    "self_spectr": {"num_drafts": 2, "length": 3},
    "self_rsd_c": {"branching": (2, 2, 1)},
    "self_rsd_s": {"width": 3, "length": 3},
}
_GREEDY, _SAMPLED = {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}
# case: (sampling, prompts, mesh)
_CASES = {
    "greedy, batch 1": (_GREEDY, 1, None),
    "greedy, batch 3": (_GREEDY, 3, None),
    "sampled, batch 1": (_SAMPLED, 1, None),
    "sampled, batch 3": (_SAMPLED, 3, None),
    "sampled, batch 3, mesh 2x2": (_SAMPLED, 3, (2, 2)),
}
_PROMPTS = [[1, 28, 9, 14, 0, 23, 6, 17], [7], [11, 2, 30, 5, 5]]
_NEW_TOKENS = 48
_EOS = 12  # some rows meet it
_SKIPS = np.asarray([[False, False], [False, True]])


def _on_mesh(loaded, shape):
    """The same model, placed as `load_model` places one."""
    if shape is None:
        return loaded
    layout = MeshLayout.of(jax.make_mesh(shape, ("data", "model")))
    flat = flax.traverse_util.flatten_dict(loaded.params)
    config = loaded.model.config
    place = functools.partial(family_of(config).place, layout, config)
    placed = {path: place(path, weights) for path, weights in flat.items()}
    return LoadedModel(loaded.model, flax.traverse_util.unflatten_dict(placed), layout)


def _decode(name, case, target, draft):
    sampling, rows, _ = _CASES[case]
    method = rsd_jax.build_method(name, **_METHODS[name])
    own = {"skips": _SKIPS} if method.drafter.needs_skips else {}
    result = rsd_jax.generate(
        method,
        target,
        draft if method.drafter.needs_draft_model else None,
        _PROMPTS[:rows],
        seed=11,
        max_new_tokens=_NEW_TOKENS,
        eos_id=_EOS,
        **sampling,
        **own,
    )
    return {"tokens": result.tokens, "blocks": result.stats.blocks.tolist()}


def record(wide: bool):
    """By case and method: tokens and block counts."""
    found = {}
    for case, (_, _, shape) in _CASES.items():
        pair = tiny_pair(share=0.05, dtype="float64" if wide else "float32")
        models = [_on_mesh(model, shape) for model in pair]
        found[case] = {}
        for name in _METHODS:
            print(f"{case}: {name}", file=sys.stderr, flush=True)
            found[case][name] = _decode(name, case, *models)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the file anew")
    parser.add_argument("--float64", action="store_true", help="weights and logits in float64")
    parser.add_argument("--file", type=pathlib.Path, default=_PATH)
    args = parser.parse_args()
    with jax.enable_x64(args.float64):
        found = record(args.float64)
    if args.write:
        args.file.write_text(json.dumps(found) + "\n", encoding="utf-8")
        return 0
    known = json.loads(args.file.read_text(encoding="utf-8"))
    different = [
        f"{case}: {name}"
        for case, runs in known.items()
        for name, run in runs.items()
        if run != found[case][name]
    ]
    print("other tokens than recorded:", *(different or ["none"]), sep="\n  ")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
