"""The tokens of every kind of method at fixed seeds, to compare commits.

    python -m tests.fixed_seed_record            compares with tests/fixtures/fixed_seed_tokens.json
    python -m tests.fixed_seed_record --write    writes that file anew
    python -m tests.fixed_seed_record --draws    writes fixed_seed_laws.json anew, nothing else

The file holds new tokens and block counts of each on a tiny pair, greedy and at T = 0.7 with top-p
0.9, with batches of 1 and of 3 prompts, and at T = 0.7 on a mesh of 2 x 2 devices. The seed fixes
the draws, so every machine gives these tokens, up to float32 rounding of the logits.
fixed_seed_laws.json holds random bits and laws; with it, an accelerator is held against a CPU.

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

from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import LoadedModel
from rsd_jax.models.families import family_of
from rsd_jax.testing import fixed_seeds

_FIXTURES = pathlib.Path(__file__).parent / "fixtures"
TOKENS, OTHERS = _FIXTURES / "fixed_seed_tokens.json", _FIXTURES / "fixed_seed_laws.json"
_DECIMALS = 8  # of recorded probabilities


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


def record(wide: bool):
    """By case and method: tokens and block counts."""
    found = {}
    for case, (_, _, shape) in fixed_seeds.CASES.items():
        pair = fixed_seeds.fixed_pair("float64" if wide else "float32")
        models = [_on_mesh(model, shape) for model in pair]
        found[case] = {}
        for name in fixed_seeds.METHODS:
            print(f"{case}: {name}", file=sys.stderr, flush=True)
            result = fixed_seeds.decode(name, case, *models)
            found[case][name] = {"tokens": result.tokens, "blocks": result.stats.blocks.tolist()}
    return found


def record_of_draws():
    """Random bits, and laws of the pair in float32."""
    found = np.round(fixed_seeds.laws(*fixed_seeds.fixed_pair()).astype(np.float64), _DECIMALS)
    return {"bits": fixed_seeds.bits_sha256(), "laws": found.tolist()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the file anew")
    parser.add_argument("--float64", action="store_true", help="weights and logits in float64")
    parser.add_argument("--file", type=pathlib.Path, default=TOKENS)
    parser.add_argument("--draws", action="store_true", help="write fixed_seed_laws.json anew")
    args = parser.parse_args()
    if args.draws:
        OTHERS.write_text(json.dumps(record_of_draws()) + "\n", encoding="utf-8")
        return 0
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
