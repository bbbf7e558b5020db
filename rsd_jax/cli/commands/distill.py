"""`rsd distill`: the stages from text to a draft for a target."""

import argparse
import pathlib
from typing import Self

from tqdm import tqdm

from rsd_jax.cli.interrupts import keeping
from rsd_jax.core.sharding import make_mesh
from rsd_jax.distillation.pipeline import STAGES, run_stage
from rsd_jax.distillation.report import report
from rsd_jax.distillation.responses.generate import ShardProgress
from rsd_jax.distillation.settings import Settings
from rsd_jax.distillation.workspace import Workspace


def run(args: argparse.Namespace) -> None:
    """Runs the stages, or prints the report."""
    workdir = args.workdir or pathlib.Path(args.config.workdir)
    if args.stage == "report":
        print(report(workdir))
        return
    settings, mesh = Settings.from_config(args.config), make_mesh(args.mesh)
    workspace = Workspace(settings, workdir, args.export_dir or workdir / "export", mesh)
    kept = (
        f"complete stages and shards and the newest checkpoints are in {workdir}; the same command "
        "goes on from there"
    )
    with keeping(lambda: kept):
        for stage in STAGES if args.stage == "all" else (args.stage,):
            print(f"stage {stage}", flush=True)
            with _Shards() as shards:
                run_stage(workspace, stage, shards.show)
            if stage == "decode":
                print(report(workdir))


class _Shards:
    """The shards of responses of a stage: a bar in a terminal; in a file or a pipe, a line each."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None  # most stages write no shards

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, progress: ShardProgress) -> None:
        """Shows a shard that was written."""
        said = (
            f"{progress.tokens} new tokens, {progress.tokens_per_second:.0f} tokens/s, with "
            "compilation and stored probabilities"
        )
        if self._bar is None:
            self._bar = tqdm(total=progress.total, unit="shard", disable=None)
        if self._bar.disable:
            print(f"shard {progress.shards}/{progress.total}: {said}", flush=True)
        else:
            self._bar.set_postfix_str(said, refresh=False)
            self._bar.update(progress.shards - self._bar.n)
