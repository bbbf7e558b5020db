"""Drafts with the target while searching for layers to skip, prompt after prompt (SWIFT).

python launch/stream.py --config=configs/evaluate/swift_stream.py

Every instance is decoded by the method and by autoregressive decoding. Rows of both go to
results.jsonl in the configuration's `out_dir`, and the search to a file. A stopped stream resumes.
Any value can be set, e.g. --config.task.num_prompts=20. launch/plot.py draws the rows.
"""

import dataclasses

from launcher import Parser, run

from tqdm import tqdm

from launch.pairs import load_pair
from rsd_jax.evaluation.stream.session import Session
from rsd_jax.evaluation.stream.settings import StreamSettings
from rsd_jax.records.rows import Row
from rsd_jax.reporting.stream import tables
from rsd_jax.reporting.stream.streams import streams_of

_FORMAT = "{l_bar}{bar}| [{elapsed}<{remaining}{postfix}]"


def main() -> None:
    args = Parser(__doc__, config="configs/evaluate/swift_stream.py").read()
    settings = StreamSettings.from_config(args.config)
    pair = load_pair(dataclasses.replace(settings.pair, draft=""))
    session = Session(settings, pair.target, pair.tokenizer)
    count = len(session.encoded.tokens)
    total = count * (1 + settings.phases)
    with tqdm(total=total, disable=None, bar_format=_FORMAT) as bar:
        bar.update(len(session.done))

        def watch(what: str, row: Row | None) -> None:
            bar.update()
            if row is not None:
                bar.set_postfix_str(f" {_in_words(row)}")
                if bar.disable:
                    print(f"{len(session.done)}/{count} {_in_words(row)}", flush=True)

        rows = session.run(watch)
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
    run(main)
