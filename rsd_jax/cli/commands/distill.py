"""Trains a draft for a target: python launch/distill.py --config=configs/distill/quickstart.py.

Each stage reads files of earlier stages in the work directory. Training resumes from the newest
checkpoint, generation of responses at the first missing shard. `--stage=all` runs the stages of a
pair in order. `--stage=losses` trains one draft per loss and compares the drafts,
`--stage=prompts` cuts new held-out prompts, `--stage=skipping` adapts the target to draft for
itself with sub-layers skipped, and `--stage=report` prints the results as tables. Any value of the
configuration can be set, e.g. --config.draft.recipe.steps=20000. `--mesh 4 2` uses 4 x 2 devices.
"""

import argparse
import pathlib

from launcher import Parser, run

from rsd_jax.core.sharding import make_mesh
from rsd_jax.distillation.pipeline import EXTRA_STAGES, STAGES, run_stage
from rsd_jax.distillation.report import report
from rsd_jax.distillation.responses.generate import ShardProgress
from rsd_jax.distillation.settings import Settings
from rsd_jax.distillation.workspace import Workspace


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__, config="configs/distill/quickstart.py")
    parser.add_argument(
        "--stage", default="all", choices=("all", *STAGES, *EXTRA_STAGES, "report"), help="to run"
    )
    parser.add_argument(
        "--workdir", type=pathlib.Path, help="work directory, if not the configuration's"
    )
    parser.add_argument(
        "--export_dir",
        type=pathlib.Path,
        help="folder of the pair, if not `export` in the work directory",
    )
    parser.add_argument(
        "--mesh", type=int, nargs=2, default=(), help="sizes of the mesh's axes data and model"
    )
    return parser.read()


def main() -> None:
    args = _arguments()
    workdir = args.workdir or pathlib.Path(args.config.workdir)
    if args.stage == "report":
        print(report(workdir))
        return
    settings, mesh = Settings.from_config(args.config), make_mesh(args.mesh)
    workspace = Workspace(settings, workdir, args.export_dir or workdir / "export", mesh)
    for stage in STAGES if args.stage == "all" else (args.stage,):
        print(f"stage {stage}", flush=True)
        run_stage(workspace, stage, _show)
        if stage == "decode":
            print(report(workdir))


def _show(progress: ShardProgress) -> None:
    print(
        f"shard {progress.shards}/{progress.total}: {progress.tokens} new tokens, "
        f"{progress.tokens_per_second:.0f} tokens/s, with compilation and stored probabilities",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
