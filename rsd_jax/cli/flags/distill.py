"""`rsd distill`: its flags."""

import argparse
import pathlib

from rsd_jax.cli import choices
from rsd_jax.cli.flags.command import Command
from rsd_jax.cli.flags.processes import add_process_flags, check_processes


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stage",
        default="all",
        choices=("all", *choices.STAGES, *choices.EXTRA_STAGES, "report"),
        help="to run",
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
        "--mesh",
        type=int,
        nargs="+",
        default=(),
        help="sizes of the mesh's axes data and model, and fsdp, which splits parameters and "
        "optimiser state of training further",
    )
    add_process_flags(parser)


COMMAND = Command(
    summary="Trains a draft for a target.",
    about="""\
Each stage reads files of earlier stages in the work directory. Training resumes from the newest
checkpoint, generation of responses at the first missing shard. `--stage=all` runs the stages of a
pair in order. `--stage=losses` trains one draft per loss and compares the drafts,
`--stage=pack` packs the training of the draft for another machine,
`--stage=prompts` cuts new held-out prompts, `--stage=skipping` adapts the target to draft for
itself with sub-layers skipped, and `--stage=report` prints the results as tables.
""",
    examples=r"""
  rsd distill --config quickstart --workdir runs/quickstart
  rsd distill --config smollm2:hub --config.draft.recipe.steps=20000
  rsd distill --config any_llama --config.target_directory=DIR --config.files.patterns="('TEXT',)" \
      --config.prompt_files.patterns="('PROMPTS.jsonl',)" \
      --config.decode.prompt_files.patterns="('TEST.jsonl',)"
  rsd distill --config quickstart --stage draft --mesh 4 2
  rsd distill --config quickstart --stage report
""",
    add_flags=_add_flags,
    check=check_processes,
    configs="distill",
    names=("any_llama", "llama2_115m", "quickstart", "smollm2"),
    config="quickstart",
)
