"""The report's section on what was measured on an accelerator."""

from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.accelerator.tables import accelerator_tables
from rsd_jax.reporting.page import Output, Section


def sections(rows: Sequence[Row], _output: Output) -> list[Section]:
    """One section, if there are such rows."""
    tables = accelerator_tables(rows)
    text = "Random weights in published shapes: times of programs, not rates of tokens."
    return [Section("On an accelerator", text=text, tables=tables)] if tables else []
