"""Seconds of calls, and the order in which those that are compared take turns."""

import time
from collections.abc import Callable
from typing import Any

import jax


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a call returns, once its arrays are there, and the seconds that it took."""
    begin = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - begin


def turn_order(contestants: int, turn: int) -> list[int]:
    """The contestants in the order of one turn.

    Each turn starts with another one, so that a slow moment of the machine falls on all alike.
    """
    return [(turn + index) % contestants for index in range(contestants)]
