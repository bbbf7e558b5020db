"""Trains a target and a draft: python launch/train.py --config=configs/train/quickstart.py.

Each stage reads what the earlier ones left in the work directory; training stages resume from
their newest checkpoint. `--stage=all` runs them in order; `--stage=prompts` cuts new held-out
prompts and `--stage=report` prints the results as tables. Any value of the configuration can be
set, e.g. --config.target.recipe.steps=20000.
"""

import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from rsd_jax.distillation.pipeline import STAGES, Pipeline  # noqa: E402
from rsd_jax.distillation.report import report  # noqa: E402
from rsd_jax.distillation.train import NonFiniteLossError  # noqa: E402
from rsd_jax.errors import CheckpointError, ConfigError  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", str(_ROOT / "configs/train/quickstart.py"))
_STAGE = flags.DEFINE_enum("stage", "all", ("all", *STAGES, "prompts", "report"), "What to run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Overrides the configuration's work directory.")
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Where the pair goes; default: `export` in the work directory."
)


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # orbax reports every save
    config = _CONFIG.value
    workdir = pathlib.Path(_WORKDIR.value or config.workdir)
    export_dir = pathlib.Path(_EXPORT_DIR.value or workdir / "export")
    pipeline = Pipeline(config, workdir, export_dir)
    try:
        if _STAGE.value == "report":
            print(report(workdir))
            return
        for stage in STAGES if _STAGE.value == "all" else (_STAGE.value,):
            print(f"stage {stage}", flush=True)
            pipeline.run(stage)
    except (ConfigError, CheckpointError, NonFiniteLossError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
