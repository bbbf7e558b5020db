"""The errors of the package: each one names what to change.

All of them are `ValueError`s or `RuntimeError`s, so a caller that does not know this package can
still catch them.
"""

import numbers
from typing import Any


class ConfigError(ValueError):
    """An option, a configuration value or an argument cannot be used as given."""


def is_integer(value: object) -> bool:
    """Whether a value counts as an integer; integers of numpy do, booleans do not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value counts as a real number; numbers of numpy do, booleans do not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


LARGEST_INTEGER = 2**31 - 1
"""Of sizes and counts, which are 32 bits wide on devices."""


def positive_integer(
    name: str, value: Any, otherwise: str = "", *, most: int | None = LARGEST_INTEGER
) -> int:
    """The value as an int.

    Args:
      name: of the option, for the error message.
      value: what was given for it.
      otherwise: the end of the error message.
      most: the largest value; None: any.

    Raises:
      ConfigError: the value is not an integer, or it is less than 1 or more than `most`.
    """
    if not is_integer(value) or value < 1:
        raise ConfigError(f"{name}={value!r} must be an integer of at least 1{otherwise}")
    if most is not None and value > most:
        raise ConfigError(f"{name}={value!r} must be at most {most}")
    return int(value)


class CheckpointError(ValueError):
    """A model directory is missing, truncated, or does not hold what its config promises."""


class NonFiniteLogitsError(RuntimeError):
    """A model returned NaN logits, or a row of logits that are all minus infinity.

    Attributes:
      rows: dict from row (position in `prompts`) to the block whose logits were not finite, counted
        from 0.
      result: the `GenerateResult` with everything that was produced: the finished rows whole, the
        failed rows up to the block before the failure.
    """

    def __init__(self, rows: dict[int, int], result: Any):
        self.rows = dict(rows)
        self.result = result
        where = ", ".join(f"row {row} in block {block}" for row, block in sorted(rows.items()))
        super().__init__(
            f"non-finite logits (NaN, or every token masked) in {where}; check the weights and "
            "dtype of the models. The other rows' tokens are in this error's `.result`."
        )


class NonFiniteLossError(RuntimeError):
    """The loss or the gradient of a step was NaN or infinite.

    Attributes:
      step: the step, counted from 0.
    """

    def __init__(self, step: int, loss: float, grad_norm: float, kept: int | None):
        self.step = step
        last = "no checkpoint was written" if kept is None else f"checkpoint {kept} is intact"
        super().__init__(
            f"step {step} has loss {loss} and gradient norm {grad_norm}; {last}. Lower "
            "`learning_rate` or `clip_norm`, lengthen `warmup_steps`, or use float32"
        )
