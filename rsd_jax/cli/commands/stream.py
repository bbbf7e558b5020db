"""`rsd stream`: a search for layers to skip along a stream of prompts (SWIFT)."""

import argparse
import dataclasses

from tqdm import tqdm

from rsd_jax.cli.interrupts import keeping
from rsd_jax.cli.pairs import load_pair
from rsd_jax.core.sharding import make_mesh
from rsd_jax.evaluation.stream.session import Session
from rsd_jax.evaluation.stream.settings import StreamSettings
from rsd_jax.records.rows import Row
from rsd_jax.reporting.stream import tables
from rsd_jax.reporting.stream.streams import streams_of

_FORMAT = "{l_bar}{bar}| [{elapsed}<{remaining}{postfix}]"


def run(args: argparse.Namespace) -> None:
    """Decodes the instances that are missing, and shows tables of all."""
    settings = StreamSettings.from_config(args.config)
    pair = load_pair(dataclasses.replace(settings.pair, draft=""), make_mesh(settings.mesh))
    session = Session(settings, pair.target, pair.tokenizer)
    count = len(session.encoded.tokens)
    total = count * (1 + settings.phases)

    def kept() -> str:
        return (
            f"{len(session.done)} of {count} instances were decoded, their rows are in "
            f"{session.path}; the same command goes on"
        )

    with keeping(kept), tqdm(total=total, disable=None, bar_format=_FORMAT) as bar:
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
