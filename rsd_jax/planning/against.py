"""What a calibration predicted, beside what rows of other prompts measured."""

import collections
import dataclasses
from collections.abc import Iterable

from rsd_jax.errors import ConfigError
from rsd_jax.planning.calibration import Calibration, Candidate, Expected
from rsd_jax.planning.measured import Measured, measured, relative_rate
from rsd_jax.records.rows import Row


@dataclasses.dataclass(frozen=True)
class Held:
    """One method at one temperature.

    Attributes:
      expected: the prediction.
      block_efficiency: measured, over all rows of the method.
      rate_ratio: measured token rate over that of autoregressive decoding, prompts included.
      predicted_ratio: the prediction of `rate_ratio`, for prompts and answers of the lengths that
        were calibrated.
    """

    expected: Expected
    block_efficiency: float
    rate_ratio: float
    predicted_ratio: float


def against(calibration: Calibration, rows: Iterable[Row]) -> list[Held]:
    """The methods of a calibration that rows have measured too, in the calibration's order.

    Rows of several tasks and runs are added up; those of methods that were not calibrated are left
    out, and so is autoregressive decoding, of which all rates are multiples.

    Raises:
      ConfigError: no row is of a calibrated method, autoregressive decoding was not calibrated at
        its temperature, or as `measured`.
    """
    parts: dict[tuple[Candidate, float], list[Measured]] = collections.defaultdict(list)
    for each in measured(calibration, rows):
        parts[each.candidate, each.temperature].append(each)
    base = {each.temperature: each for each in calibration.expected if each.method == "ar"}
    held = []
    for expected in calibration.expected:
        temperature = expected.temperature
        found = parts.get((expected.candidate, temperature))
        if not found or expected.method == "ar":
            continue
        if temperature not in base:
            raise ConfigError(f"ar was not calibrated at T = {temperature:g}, which ratios need")
        counts = [(each.part.produced or 0, each.part.blocks or 0) for each in found]
        produced, blocks = map(sum, zip(*counts, strict=True))
        held.append(
            Held(
                expected=expected,
                block_efficiency=produced / blocks,
                rate_ratio=relative_rate(found),
                predicted_ratio=expected.tokens_per_second / base[temperature].tokens_per_second,
            )
        )
    if not held:
        raise ConfigError("no row is of a method and temperature of the calibration")
    return held
