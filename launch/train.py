"""Trains a target and a draft: python launch/train.py --config=configs/train/quickstart.py.

Each stage reads what the earlier ones left in the work directory; training stages resume from
their newest checkpoint. `--stage=all` runs them in order; `--stage=prompts` cuts new held-out
prompts and `--stage=report` prints the results as tables. Any value of the configuration can be
set, e.g. --config.target.recipe.steps=20000; `--mesh=4,2` trains on 4 x 2 devices.
"""

import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

import jax  # noqa: E402
from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from rsd_jax.distillation.log import NonFiniteLossError  # noqa: E402
from rsd_jax.distillation.pipeline import STAGES, Pipeline  # noqa: E402
from rsd_jax.distillation.report import report  # noqa: E402
from rsd_jax.errors import CheckpointError, ConfigError  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", str(_ROOT / "configs/train/quickstart.py"))
_STAGE = flags.DEFINE_enum("stage", "all", ("all", *STAGES, "prompts", "report"), "What to run.")
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
        pipeline = Pipeline(config, workdir, export_dir, _mesh())
        if _STAGE.value == "report":
            print(report(workdir))
            return
        for stage in STAGES if _STAGE.value == "all" else (_STAGE.value,):
            print(f"stage {stage}", flush=True)
            pipeline.run(stage)
    except (ConfigError, CheckpointError, NonFiniteLossError) as error:
        sys.exit(f"error: {error}")


def _mesh() -> jax.sharding.Mesh | None:
    if _MESH.value is None:
        return None
    try:
        data, model = map(int, _MESH.value)
        return jax.make_mesh((data, model), ("data", "model"))
    except ValueError as error:
        raise ConfigError(
            f"mesh={','.join(_MESH.value)} cannot be made of {jax.device_count()} devices: {error}"
        ) from error


if __name__ == "__main__":
    app.run(main)
