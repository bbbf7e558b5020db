"""What a calibration predicted beside what rows measured: tables and a figure."""

import argparse
from collections.abc import Mapping, Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.planning import (
    Calibration,
    Candidate,
    Held,
    Reached,
    against,
    load_calibration,
    reached,
)
from rsd_jax.planning.measured import of_task
from rsd_jax.records.files import read_rows
from rsd_jax.reporting.figures import save
from rsd_jax.reporting.predictions import Prediction, Quantity, prediction_figure
from rsd_jax.reporting.table_formats import Table

TOKENS_WITHIN, RATE_WITHIN = 0.05, 0.1
CAPTION = (
    "Bars: 95 % intervals of predicted tokens, from the differences between prompts. Token rates "
    "are multiples of that of autoregressive decoding, prompts included."
)


def compare(args: argparse.Namespace) -> None:
    """Prints predictions beside measured rows, and how good the choice was; draws `args.figure`.

    Raises:
      ConfigError: a file cannot be read, or its rows cannot be compared.
      OSError: the figure cannot be written.
    """
    rows = [row for path in args.against for row in read_rows(path)]
    calibration: Calibration | dict[str, Calibration]
    if args.of_task:
        calibration = {task: load_calibration(path) for task, path in args.of_task}
        parts = {task: against(one, of_task(rows, task)) for task, one in calibration.items()}
    else:
        calibration = load_calibration(args.out)
        parts = {"": against(calibration, rows)}
    print(table_against(parts).aligned())
    found = []
    for temperature in sorted(
        {each.expected.temperature for held in parts.values() for each in held}
    ):
        try:
            found += reached(calibration, rows, temperature)
        except ConfigError as error:
            print(f"\nnot compared with the fastest method of each task: {error}")
    if found:
        print()
        print(table_reached(found).aligned())
    if args.figure:
        suffix = args.figure.suffix.removeprefix(".") or "png"
        panels = [line for task, held in parts.items() for line in quantities(task, held)]
        (path,) = save(prediction_figure(panels, CAPTION), args.figure.with_suffix(""), [suffix])
        print(f"\nfigure: {path}")


def quantities(task: str, held: Sequence[Held]) -> list[list[Quantity]]:
    """Two panels for each temperature: tokens of a block, and token rates.

    Args:
      task: begins the titles; "" if they need none.
      held: of the task.
    """
    panels = []
    for temperature in sorted({each.expected.temperature for each in held}):
        found = [each for each in held if each.expected.temperature == temperature]
        tokens = [
            Prediction(
                each.expected.candidate.words,
                each.expected.tokens,
                each.block_efficiency,
                each.expected.standard_error,
            )
            for each in found
        ]
        rates = [
            Prediction(each.expected.candidate.words, each.predicted_ratio, each.rate_ratio)
            for each in found
        ]
        title = f"{task}, T = {temperature:g}".removeprefix(", ")
        panels.append(
            [
                Quantity(title, "tokens per block", TOKENS_WITHIN, tokens),
                Quantity(title, "token rate (AR = 1)", RATE_WITHIN, rates),
            ]
        )
    return panels


def table_reached(found: Sequence[Reached]) -> Table:
    """The fastest method of each task, and what the two choices reach of its rate."""
    rows = []
    for each in found:
        cells = [
            f"{each.temperature:g}",
            each.task,
            _words(each.oracle),
            f"{each.oracle_ratio:.2f}",
        ]
        for share in (each.chosen, each.single):
            ends = share.interval
            interval = "" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]"
            cells += [_words(share.candidate), f"{share.ratio:.2f}", f"{share.share:.2f}", interval]
        rows.append(cells)
    shown = ("to ar", "of fastest", "95 %")
    heads = ("T", "task", "fastest", "to ar", "calibration's choice", *shown)
    return Table((*heads, "best single", *shown), rows, frozenset({1, 2, 4, 8}))


def _words(candidate: Candidate | None) -> str:
    return "each task's own" if candidate is None else candidate.words


def table_against(parts: Mapping[str, Sequence[Held]]) -> Table:
    """What was predicted and what was measured, a line per method; by task, which may be ""."""
    rows = []
    for task, held in parts.items():
        for each in held:
            known = each.expected
            blocks = (known.tokens, each.block_efficiency)
            ratios = (each.predicted_ratio, each.rate_ratio)
            off = [f"{100 * (ours / other - 1):+.0f} %" for ours, other in (blocks, ratios)]
            named = [known.method, known.tree, known.verifier]
            shown = [f"{number:.2f}" for number in (*blocks, *ratios)]
            begin = [task] if task else []
            rows.append(
                [*begin, f"{known.temperature:g}", *named, *shown[:2], off[0], *shown[2:], off[1]]
            )
    compared = ("tokens/block", "measured", "off", "to ar", "measured", "off")
    heads = ("T", "method", "tree", "verifier", *compared)
    if "" in parts:
        return Table(heads, rows, frozenset({1, 2, 3}))
    return Table(("task", *heads), rows, frozenset({0, 2, 3, 4}))
