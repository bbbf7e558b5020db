"""What a calibration predicted, beside what rows of other prompts measured."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.planning.calibration import Calibration, Expected, Structure
from rsd_jax.records.decoding import Decoding
from rsd_jax.records.rows import Row


@dataclasses.dataclass(frozen=True)
class Held:
    """One method at one temperature.

    Attributes:
      expected: the prediction.
      block_efficiency: measured, over all rows of the method.
      rate_ratio: measured token rate over that of autoregressive decoding in the same rows, prompts
        included.
      predicted_ratio: the same from the calibration, whose prompts and answers had lengths of their
        own.
    """

    expected: Expected
    block_efficiency: float
    rate_ratio: float
    predicted_ratio: float


def against(calibration: Calibration, rows: Iterable[Row]) -> list[Held]:
    """The methods of a calibration that rows have measured too, in the calibration's order.

    Rows of several tasks and runs are added up; those of methods that were not calibrated are left
    out, and so is autoregressive decoding, which all rates are multiples of.

    Raises:
      ConfigError: no row is of a calibrated method, or autoregressive decoding was not calibrated
        at its temperature.
    """
    measured: dict[tuple[Structure, float], list[Decoding]] = collections.defaultdict(list)
    for row in rows:
        part = row.decoding
        if part is not None and part.blocks and row.status == "ok" and part.token_rate_ratio:
            structure = (row.method, row.tree, row.verifier or "")
            measured[structure, row.temperature].append(part)
    base = {each.temperature: each for each in calibration.expected if each.method == "ar"}
    found = []
    for expected in calibration.expected:
        temperature = expected.temperature
        parts = measured.get((expected.structure, temperature))
        if not parts or expected.method == "ar":
            continue
        if temperature not in base:
            raise ConfigError(f"ar was not calibrated at T = {temperature:g}, which ratios need")
        found.append(
            Held(
                expected=expected,
                block_efficiency=_sum(parts, "produced") / _sum(parts, "blocks"),
                rate_ratio=relative_rate(parts),
                predicted_ratio=expected.tokens_per_second / base[temperature].tokens_per_second,
            )
        )
    if not found:
        raise ConfigError("no row is of a method and temperature of the calibration")
    return found


def relative_rate(parts: Sequence[Decoding]) -> float:
    """Token rate over that of autoregressive decoding, both over all parts together.

    Autoregressive decoding would have taken `token_rate_ratio` times as long, beside which each
    part was timed; so parts of several runs can be added up.
    """
    base = sum(part.seconds * (part.token_rate_ratio or 1.0) for part in parts)
    return base / _sum(parts, "seconds")


def _sum(parts: Sequence[Decoding], field: str) -> float:
    return float(sum(getattr(part, field) for part in parts))
