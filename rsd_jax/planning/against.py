"""What a calibration predicted, beside what rows of other prompts measured."""

import collections
import dataclasses
from collections.abc import Iterable

from rsd_jax.errors import ConfigError
from rsd_jax.planning.calibration import Calibration, Expected
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
      predicted_ratio: the same from the calibration, where prompts are not counted.
    """

    expected: Expected
    block_efficiency: float
    rate_ratio: float
    predicted_ratio: float


def against(calibration: Calibration, rows: Iterable[Row]) -> list[Held]:
    """The methods of a calibration that rows have measured too, as in the calibration's order.

    Rows of several tasks are added up; those of methods that were not calibrated are left out.

    Raises:
      ConfigError: no row is of a calibrated method, or autoregressive decoding is missing in
        either at a temperature.
    """
    measured: dict[tuple[str, str, str, float], list[Decoding]] = collections.defaultdict(list)
    for row in rows:
        part = row.decoding
        if part is not None and part.blocks and row.status == "ok":
            measured[row.method, row.tree, row.verifier or "", row.temperature].append(part)
    known = {
        (each.method, each.tree, each.verifier, each.temperature): each
        for each in calibration.expected
    }
    found = []
    for key, expected in known.items():
        if not (parts := measured.get(key)) or expected.method == "ar":
            continue
        base = [k for k in known if k[0] == "ar" and k[3] == expected.temperature]
        base_parts = measured.get(base[0]) if base else None
        if not base_parts:
            raise ConfigError(
                f"T = {expected.temperature:g}: ar is missing among the "
                f"{'rows' if base else 'calibrated methods'}, which ratios need"
            )
        found.append(
            Held(
                expected=expected,
                block_efficiency=_sum(parts, "produced") / _sum(parts, "blocks"),
                rate_ratio=_rate(parts) / _rate(base_parts),
                predicted_ratio=expected.tokens_per_second / known[base[0]].tokens_per_second,
            )
        )
    if not found:
        raise ConfigError("no row is of a method and temperature of the calibration")
    return found


def _sum(parts: list[Decoding], field: str) -> float:
    return float(sum(getattr(part, field) for part in parts))


def _rate(parts: list[Decoding]) -> float:
    return _sum(parts, "tokens") / _sum(parts, "seconds")
