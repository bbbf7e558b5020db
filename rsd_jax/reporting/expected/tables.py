"""Tables of expected tokens: every row, gains over another base, and how often a gain is clear."""

import statistics

from rsd_jax.records.expected import BASE
from rsd_jax.records.metrics import Interval
from rsd_jax.reporting.expected.contests import (
    Contest,
    Measured,
    bases,
    gains,
    in_order,
    style,
    tokens,
)
from rsd_jax.reporting.figures import STYLES, style_of
from rsd_jax.reporting.panels import Structure
from rsd_jax.reporting.table_formats import Table, number, with_interval

_PHASES = ("draft", "score", "verify", "commit")
_ROUNDING = 1e-5  # verifiers that are equal in exact arithmetic differ by less


def tokens_table(contest: Contest) -> Table:
    """A line per row: sampled tokens per block, and of each verifier the expected ones."""
    verifiers = contest.verifiers
    lines = []
    for one in ordered(contest):
        expected, gained = tokens(one), gains(one)
        cells = [
            f"{number(expected[name][0], 3)}{_beside(gained.get(name))}"
            if name in expected
            else "-"
            for name in verifiers
        ]
        sampled = with_interval(one.value("block_efficiency"), one.interval("block_efficiency"), 2)
        lines.append([*place_of(one), number(one.value("expected_blocks"), 0), sampled, *cells])
    heads = ("method", "tree", "T", "contexts of", "blocks", "sampled", *_labels(verifiers))
    title = f"{contest.label}: expected tokens per block, and gain over {style(BASE).label}"
    return Table(heads, lines, frozenset({0, 1, 2, 3}), title)


def costs_table(contest: Contest) -> Table:
    """A line per row: MBSU, token rate over AR, and where a block's time goes, if it was timed."""
    lines = []
    for one in ordered(contest):
        rate = with_interval(one.value("token_rate_ratio"), one.interval("token_rate_ratio"), 2)
        mbsu = with_interval(one.value("mbsu"), one.interval("mbsu"), 2)
        lines.append([*place_of(one), mbsu, rate, *map(_share, shares_of_block(one))])
    heads = (
        "method",
        "tree",
        "T",
        "contexts of",
        "MBSU",
        "token rate / AR",
        "verification",
        "all but the model passes",
    )
    title = f"{contest.label}: rates of the runs, and shares of a block's time"
    return Table(heads, lines, frozenset({0, 1, 2, 3}), title)


def shares_of_block(structure: Structure) -> tuple[float | None, float | None]:
    """Of a block's time: the share of verification, and of all but the model passes.

    The first is of the sum of the four phases, each a program of its own; the second is
    1 - forwards / block, both in one loop. Means over seeds; None where it was not timed.
    """
    taken = [row.timing for row in structure.rows if row.timing is not None]
    verification = [
        part.phase_times["verify"] / sum(part.phase_times[name] for name in _PHASES)
        for part in taken
        if all(name in part.phase_times for name in _PHASES)
    ]
    outside = [
        1 - part.phase_times["forwards"] / part.t_block
        for part in taken
        if "forwards" in part.phase_times
    ]
    return (
        statistics.fmean(verification) if verification else None,
        statistics.fmean(outside) if outside else None,
    )


def other_bases(contest: Contest) -> list[Table]:
    """For each base but recursive rejection, a table of the gains over it."""
    tables = []
    for base in bases(contest.structures):
        found = [(one, gains(one, base)) for one in ordered(contest) if gains(one, base)]
        if base == BASE:
            continue
        names = in_order(name for _, gained in found for name in gained)
        lines = [
            [*place_of(one), *(_gain(gained.get(name)) for name in names)] for one, gained in found
        ]
        heads = ("method", "tree", "T", "contexts of", *_labels(names))
        title = f"{contest.label}: gain over {style(base).label}"
        tables.append(Table(heads, lines, frozenset({0, 1, 2, 3}), title))
    return tables


def summary_table(contest: Contest) -> Table:
    """By temperature and verifier: mean gain, and how many intervals are above and below 0.

    These intervals are corrected for the number of all gains in the table, see `corrected`.
    """
    found: dict[tuple[float, str], list[Measured]] = {}
    for one in contest.structures:
        for name, gained in gains(one).items():
            found.setdefault((one.rows[0].temperature, name), []).append(gained)
    names = in_order(name for _, name in found)
    cells_in_all = sum(map(len, found.values()))
    lines = []
    for temperature, name in sorted(found, key=lambda key: (key[0], names.index(key[1]))):
        each = found[temperature, name]
        values = [value for value, _ in each]
        ends = [corrected(value, end, cells_in_all) for value, end in each if end is not None]
        mean, low, high = statistics.fmean(values), min(values), max(values)
        above = sum(low > 1 + _ROUNDING for low, _ in ends)
        below = sum(high < 1 - _ROUNDING for _, high in ends)
        cells = (f"{_percent(value):+.1f} %" for value in (mean, low, high))
        lines.append(
            [f"{temperature:g}", style(name).label, str(len(each)), *cells, str(above), str(below)]
        )
    heads = ("T", "verifier", "rows", "mean", "least", "most", "above 0", "below 0")
    title = (
        f"{contest.label}: gain over {style(BASE).label}, all methods and trees; intervals are "
        f"corrected for {cells_in_all} gains"
    )
    return Table(heads, lines, frozenset({0, 1}), title)


def corrected(value: float, ends: Interval, count: int) -> Interval:
    """A 95 % interval, widened so that `count` of them all cover with 95 % (Bonferroni).

    The bootstrap samples are not in the rows, so each side is widened by the ratio of the normal
    law's quantiles.
    """
    quantile = statistics.NormalDist().inv_cdf
    wider = quantile(1 - 0.025 / count) / quantile(0.975)
    low, high = ends
    return value - wider * (value - low), value + wider * (high - value)


def ordered(contest: Contest) -> list[Structure]:
    """The structures by method, budget, tree, temperature and verifier."""
    known = list(STYLES)

    def place(one: Structure) -> tuple:
        row = one.rows[0]
        method = known.index(row.method) if row.method in known else len(known)
        budget = row.target_budget or 0
        drivers = in_order(each.rows[0].verifier or "" for each in contest.structures)
        driver = drivers.index(row.verifier or "")
        return method, row.method, budget, row.tree, row.temperature, driver

    return sorted(contest.structures, key=place)


def place_of(one: Structure) -> list[str]:
    """The cells that say which row a line is of: method, tree, temperature, verifier."""
    row = one.rows[0]
    label = style_of(row.method).label
    return [label, row.tree, f"{row.temperature:g}", style(row.verifier or "-").label]


def _labels(verifiers: list[str]) -> list[str]:
    return [style(name).label for name in verifiers]


def _gain(measured: Measured | None) -> str:
    """E.g. "+8.4 % [7.1, 9.6]"."""
    if measured is None:
        return "-"
    value, ends = measured
    text = f"{_percent(value):+.1f} %"
    if ends is None:
        return text
    return f"{text} [{_percent(ends[0]):.1f}, {_percent(ends[1]):.1f}]"


def _percent(gain: float) -> float:
    """Percent over 1, rounded as it is shown; never -0."""
    return round(100 * (gain - 1), 1) + 0.0


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _beside(measured: Measured | None) -> str:
    return "" if measured is None else f" ({_gain(measured)})"
