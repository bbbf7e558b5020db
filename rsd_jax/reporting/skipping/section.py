"""The report's section on passes with skipped sub-layers: time against bytes."""

from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting import facts
from rsd_jax.reporting.page import Output, Section
from rsd_jax.reporting.skipping.costs import SkipCosts, skip_cost_table, skip_costs_of
from rsd_jax.reporting.skipping.figure import skipping_figure


def sections(rows: Sequence[Row], output: Output) -> list[Section]:
    """One section, if there are such passes."""
    costs = skip_costs_of(rows)
    if not costs:
        return []
    figure = skipping_figure(costs, _caption(costs))
    picture, files = output.draw(figure, "skipping", "time against bytes")
    section = Section(
        "What a skipped sub-layer costs",
        text="Bytes: of weights, output head and live cache, over those of the whole pass. A pass "
        "whose time follows them reads nothing of what it skips.",
        pictures=[picture],
        tables=[skip_cost_table(one) for one in costs],
        files=files,
    )
    return [section]


def _caption(costs: Sequence[SkipCosts]) -> str:
    """The caption of the figure."""
    rows = [row for one in costs for row in one.passes]
    parts = [
        facts.shared("batch {}", (str(row.batch_size) for row in rows)),
        facts.shared("{} tokens of context", (str(row.context_length) for row in rows)),
        facts.shared("{}", (facts.hardware_in_words(row.hardware) for row in rows)),
    ]
    told = ", ".join(filter(None, parts))
    return f"Passes over one token with random sub-layers skipped, medians of turns; {told}."
