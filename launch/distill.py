"""Trains a draft for a target: python launch/distill.py --config=configs/distill/quickstart.py.

Each stage reads what the earlier ones left in the work directory; training goes on from the newest
checkpoint, generating responses at the first shard that is missing. `--stage=all` runs the stages
in order; besides, `--stage=losses` trains one draft per loss and compares them, `--stage=prompts`
cuts new held-out prompts, `--stage=skipping` adapts the target to draft for itself with sub-layers
skipped, and `--stage=report` prints the results as tables. Any value of the
configuration can be set, e.g. --config.draft.recipe.steps=20000; `--mesh=4,2` trains on 4 x 2
devices.
"""

import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from launch.pairs import make_mesh  # noqa: E402
from rsd_jax.distillation.pipeline import EXTRA_STAGES, STAGES, run_stage  # noqa: E402
from rsd_jax.distillation.report import report  # noqa: E402
from rsd_jax.distillation.responses.generate import ShardProgress  # noqa: E402
from rsd_jax.distillation.settings import Settings  # noqa: E402
from rsd_jax.distillation.training.log import NonFiniteLossError  # noqa: E402
from rsd_jax.distillation.workspace import Workspace  # noqa: E402
from rsd_jax.errors import CheckpointError, ConfigError, NonFiniteLogitsError  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", str(_ROOT / "configs/distill/quickstart.py"))
_STAGE = flags.DEFINE_enum(
    "stage", "all", ("all", *STAGES, *EXTRA_STAGES, "report"), "What to run."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Overrides the configuration's work directory.")
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Where the pair goes; default: `export` in the work directory."
)
_MESH = flags.DEFINE_list(
    "mesh", None, "Sizes of the mesh's axes data,model, e.g. 4,2; default: one device."
)


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # orbax reports every save
    config = _CONFIG.value
    workdir = pathlib.Path(_WORKDIR.value or config.workdir)
    export_dir = pathlib.Path(_EXPORT_DIR.value or workdir / "export")
    try:
        if _STAGE.value == "report":
            print(report(workdir))
            return
        settings, mesh = Settings.from_config(config), make_mesh(_MESH.value)
        workspace = Workspace(settings, workdir, export_dir, mesh)
        for stage in STAGES if _STAGE.value == "all" else (_STAGE.value,):
            print(f"stage {stage}", flush=True)
            run_stage(workspace, stage, _show)
    except (ConfigError, CheckpointError, NonFiniteLogitsError, NonFiniteLossError) as error:
        sys.exit(f"error: {error}")


def _show(progress: ShardProgress) -> None:
    print(
        f"shard {progress.shards}/{progress.total}: {progress.tokens} new tokens, "
        f"{progress.tokens_per_second:.0f} tokens/s",
        flush=True,
    )


if __name__ == "__main__":
    app.run(main)
