"""Tables from result rows, for terminals and for Markdown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rsd_jax.rows import Row

if TYPE_CHECKING:  # rows are shown without JAX
    from rsd_jax.evaluation.timing import BlockTimes

_HEADS = ("method", "tree", "block efficiency", "MBSU", "tokens/s", "vs AR", "tokens")


def comparison_table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """One line per row: method, tree, tau, MBSU, tokens per second, ratio to AR, tokens.

    Args:
      rows: of one run; what was not measured shows as "-".
      markdown: as a Markdown table rather than aligned for a terminal.
    """
    cells = [
        (
            row.method,
            row.tree,
            _number(row.block_efficiency, 2),
            _number(row.mbsu, 2),
            _number(row.token_rate, 1),
            _number(row.token_rate_ratio, 2),
            _number(row.tokens, 0),
        )
        for row in rows
    ]
    return _aligned(_HEADS, cells, markdown)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _line(cells: Sequence[str], widths: Sequence[int], markdown: bool) -> str:
    """Text to the left, numbers to the right."""
    padded = [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()


def _rule(widths: Sequence[int], markdown: bool) -> str:
    if not markdown:
        return "  ".join("-" * width for width in widths)
    marks = ["-" * width if i < 2 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return f"| {' | '.join(marks)} |"


_PHASE_HEADS = (
    "method", "tree", "prefill", "draft", "score", "verify", "commit", "sum", "block",
    "forwards", "outside", "realised", "compile s",
)  # fmt: skip


def phase_table(timed: Sequence[tuple[Row, "BlockTimes"]], *, markdown: bool = False) -> str:
    """One line per method: milliseconds by phase, their sum beside the fused block.

    "forwards" are the model passes of a block alone, "outside" is the share of the fused block
    that is not theirs, "realised" is (t_AR / t_block)(1 + r L).

    Args:
      timed: rows with the times they were made from.
      markdown: as a Markdown table rather than aligned for a terminal.
    """
    cells = []
    for row, times in timed:
        phases = (times.prefill, times.draft, times.score, times.verify, times.commit,
                  times.phase_sum, times.block, times.forwards)  # fmt: skip
        cells.append(
            (
                row.method,
                row.tree,
                *(f"{1e3 * seconds:.2f}" for seconds in phases),
                f"{times.outside:.0%}",
                _number(row.realised_fraction, 2),
                f"{times.compile:.1f}",
            )
        )
    return _aligned(_PHASE_HEADS, cells, markdown)


def _aligned(heads: Sequence[str], cells: Sequence[Sequence[str]], markdown: bool) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = [_line(heads, widths, markdown), _rule(widths, markdown)]
    return "\n".join(lines + [_line(row, widths, markdown) for row in cells])
