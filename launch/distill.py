"""Distils a target into its draft: python launch/distill.py --config=configs/distill/quickstart.py.

`--stage=generate` writes the target's responses to training prompts; interrupted, it goes on where
it was when it is run again. Any value of the configuration can be set, e.g.
--config.responses.max_new_tokens=64.
"""

import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

import rsd_jax  # noqa: E402
from rsd_jax.api import shipped_pair_directory  # noqa: E402
from rsd_jax.distillation.distill_pipeline import STAGES, DistillPipeline  # noqa: E402
from rsd_jax.distillation.responses import Progress  # noqa: E402
from rsd_jax.distillation.tokenizer import load_tokenizer  # noqa: E402
from rsd_jax.errors import CheckpointError, ConfigError, NonFiniteLogitsError  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", str(_ROOT / "configs/distill/quickstart.py"))
_STAGE = flags.DEFINE_enum("stage", "generate", STAGES, "What to run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Overrides the configuration's work directory.")


def _show(progress: Progress) -> None:
    print(
        f"shard {progress.shards}/{progress.total}: {progress.tokens} new tokens, "
        f"{progress.tokens_per_second:.0f} tokens/s",
        flush=True,
    )


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # jax reports every backend that is not there
    config = _CONFIG.value
    try:
        shipped = shipped_pair_directory("quickstart")
        target, draft = (config[name] or shipped / name for name in ("target", "draft"))
        pipeline = DistillPipeline(
            config,
            pathlib.Path(_WORKDIR.value or config.workdir),
            target=rsd_jax.load_model(target, dtype=config.dtype),
            draft=rsd_jax.load_model(draft, dtype=config.dtype),
            tokenizer=load_tokenizer(target),
        )
        print(f"stage {_STAGE.value}", flush=True)
        pipeline.run(_STAGE.value, _show)
    except (ConfigError, CheckpointError, NonFiniteLogitsError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
