"""Times calls, and orders the turns of what is compared."""

import time
from collections.abc import Callable
from typing import Any

import jax


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The result of a call, once its arrays are computed, and the seconds of the call."""
    begin = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - begin


def turn_order(contestants: int, turn: int) -> list[int]:
    """The contestants in the order of one turn.

    Each turn starts with the next contestant, so that slow moments affect all contestants alike.
    """
    return [(turn + index) % contestants for index in range(contestants)]
