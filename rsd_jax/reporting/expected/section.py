"""The report's section on expected tokens: gains against temperature and budget, and all rows."""

from collections.abc import Sequence

from rsd_jax.records.expected import BASE
from rsd_jax.records.rows import Row
from rsd_jax.reporting import facts
from rsd_jax.reporting.expected.contests import Contest, contests_of, gains, style
from rsd_jax.reporting.expected.figure import FLOOR, contexts_in_words, gain_figure
from rsd_jax.reporting.expected.optimum import FLOOR as OPTIMUM_FLOOR
from rsd_jax.reporting.expected.optimum import has_distance, optimum_figure, optimum_table
from rsd_jax.reporting.expected.tables import (
    costs_table,
    other_bases,
    summary_table,
    tokens_table,
)
from rsd_jax.reporting.page import Output, Section

_TEXT = (
    "Expected tokens are exact, given the drawn tree. All verifiers of a line are evaluated on the "
    "same trees and contexts, which are those of the run of one verifier (contexts of). Gains are "
    "relative to recursive rejection on the same trees, with paired 95 % bootstrap intervals over "
    "prompts; only the counts of intervals above and below 0 are corrected for their number. "
    "Sampled: what that run really produced."
)


def sections(rows: Sequence[Row], output: Output) -> list[Section]:
    """One section, if there are rows with expected tokens.

    Raises:
      ConfigError: a panel has rows of several runs.
    """
    contests = contests_of(rows)
    if not contests:
        return []
    drawn = []
    for number, contest in enumerate(contests, start=1):
        if not any(gains(one) for one in contest.structures):
            continue
        for against in ("temperature", "target_budget"):
            figure = gain_figure(contest, against, _caption(contest))
            heading = f"{contest.label}: gain against {against.replace('_', ' ')}"
            drawn.append(output.draw(figure, f"gain_{against}_{number}", heading))
        if has_distance(contest):
            figure = optimum_figure(contest, _optimum_caption(contest))
            heading = f"{contest.label}: distance to the optimum"
            drawn.append(output.draw(figure, f"optimum_{number}", heading))
    section = Section(
        "Verifiers on the same trees",
        text=_TEXT,
        pictures=[picture for picture, _ in drawn],
        tables=[
            table
            for contest in contests
            for table in (
                summary_table(contest),
                tokens_table(contest),
                *other_bases(contest),
                costs_table(contest),
                optimum_table(contest),
            )
            if table.rows
        ],
        files=[path for _, paths in drawn for path in paths],
    )
    return [section]


def _caption(contest: Contest) -> str:
    text = (
        f"Expected tokens per block relative to {style(BASE).label} on the same trees; contexts of "
        f"{contexts_in_words(contest)}. Whiskers: paired 95 % bootstrap intervals over prompts."
    )
    if any(value - 1 <= FLOOR for one in contest.structures for value, _ in gains(one).values()):
        text += f" Gains below {100 * FLOOR:.0f} % are outside of the panels."
    return f"{text} {facts.caption(contest.panels, bands=False)}"


def _optimum_caption(contest: Contest) -> str:
    text = (
        "Acceptance of a child of the root: the part of the distance from "
        f"{style(BASE).label} (0 %) to the best lossless verifier (100 %) that is closed, by "
        f"method and number of children, on the contexts of {contexts_in_words(contest)}. "
        "Whiskers: paired 95 % bootstrap intervals over prompts. Shares below "
        f"{100 * OPTIMUM_FLOOR:.0f} % are outside of the panels."
    )
    return f"{text} {facts.caption(contest.panels, bands=False)}"
