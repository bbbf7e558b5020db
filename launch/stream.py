"""Drafts with the target while searching for layers to skip, prompt after prompt (SWIFT).

python launch/stream.py --config=configs/evaluate/swift_stream.py

Every instance is decoded by the method and by autoregressive decoding; both become rows of
results.jsonl in the configuration's `out_dir`, and the search a file. Started again, it goes on.
Any value can be set, e.g. --config.task.num_prompts=20. launch/plot.py draws the rows.
"""

import os
import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that PyTorch is missing

from absl import app, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402
from tqdm import tqdm  # noqa: E402

import rsd_jax  # noqa: E402
from launch.pairs import load_target  # noqa: E402
from rsd_jax.evaluation.stream.session import Session  # noqa: E402
from rsd_jax.evaluation.stream.settings import StreamSettings  # noqa: E402
from rsd_jax.records.rows import Row  # noqa: E402
from rsd_jax.reporting.stream import tables  # noqa: E402
from rsd_jax.reporting.stream.streams import streams_of  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", str(_ROOT / "configs/evaluate/swift_stream.py"))
_FORMAT = "{l_bar}{bar}| [{elapsed}<{remaining}{postfix}]"


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # jax tells which accelerators are missing
    try:
        settings = StreamSettings.from_config(_CONFIG.value)
        session = Session(settings, *load_target(settings.pair))
        count = len(session.encoded.tokens)
        bar = tqdm(total=count * (1 + settings.phases), disable=None, bar_format=_FORMAT)
        bar.update(len(session.done))

        def watch(what: str, row: Row | None) -> None:
            bar.update()
            if row is not None:
                bar.set_postfix_str(f" {_in_words(row)}")
                if bar.disable:
                    print(f"{len(session.done)}/{count} {_in_words(row)}", flush=True)

        rows = session.run(watch)
        bar.close()
    except (rsd_jax.ConfigError, rsd_jax.CheckpointError, rsd_jax.NonFiniteLogitsError) as error:
        sys.exit(f"error: {error}")
    streams = streams_of(rows)
    print(tables.summary_table(streams).aligned())
    for stream in streams:
        if stream.phases:
            print(f"\nlatency per token\n{tables.latency_table(stream).aligned()}")
    searches = tables.search_table(streams)
    if searches.rows:
        print(f"\nwhat the search takes, per token\n{searches.aligned()}")
    print(f"\nrows: {session.path}")


def _in_words(row: Row) -> str:
    search = "searching" if row.value("searching") else "search over"
    return (
        f"{row.value('token_rate_ratio'):.2f} x AR, {row.value('overall_ratio'):.2f} so far, "
        f"matchness {row.value('matchness'):.2f}, {search}"
    )


if __name__ == "__main__":
    app.run(main)
