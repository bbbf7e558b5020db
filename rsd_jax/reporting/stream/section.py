"""The report's section on streams of prompts: a chart of each, and the tables."""

import dataclasses
from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.facts import hardware_in_words
from rsd_jax.reporting.page import Output, Section
from rsd_jax.reporting.stream.figure import stream_figure
from rsd_jax.reporting.stream.streams import PromptStream, streams_of
from rsd_jax.reporting.stream.tables import latency_table, search_table, summary_table


def sections(rows: Sequence[Row], output: Output) -> list[Section]:
    """One section, if there are streams."""
    streams = streams_of(rows)
    drawn = [
        output.draw(stream_figure(stream, _caption(stream)), f"stream_{number}", stream.label)
        for number, stream in enumerate(streams, start=1)
    ]
    tables = [summary_table(streams)]
    for stream in streams:
        if stream.phases:
            title = f"{stream.label}: latency per token"
            tables.append(dataclasses.replace(latency_table(stream), title=title))
    searches = search_table(streams)
    if searches.rows:
        tables.append(dataclasses.replace(searches, title="What the search takes, per token"))
    section = Section(
        "Streams of instances",
        text="Instance speed-up: of one instance over autoregressive decoding of the same, prefill "
        "and search included. Overall: mean rate so far over mean rate of autoregressive decoding.",
        pictures=[picture for picture, _ in drawn],
        tables=tables,
        files=[path for _, paths in drawn for path in paths],
    )
    return [section] if streams else []


def _caption(stream: PromptStream) -> str:
    """The caption of a stream's figure."""
    rows = stream.instances
    parts = [
        "Prefill and search are in the rates, compilation is not.",
        f"{len(rows)} instances of at most {rows[0].max_new_tokens} new tokens,",
        f"{rows[0].dtype}, {hardware_in_words(rows[0].hardware)}.",
    ]
    if stream.phases:
        parts.append("Latencies: of a second run with a program for each phase.")
    return " ".join(parts)
