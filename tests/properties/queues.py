"""The dynamic choices of the properties: what is decoded, and how; nothing of it compiles."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.properties import setups
from tests.properties.setups import Setup

TOKENS = st.integers(0, setups.VOCAB_SIZE - 1)
_PROMPTS = st.lists(TOKENS, min_size=1, max_size=setups.LONGEST_PROMPT)
_LIMITS = st.integers(1, setups.LARGEST_LIMIT)
_REQUEST_IDS = st.integers(0, 2**31 - 1)


@dataclasses.dataclass(frozen=True)
class Queue:
    """Prompts, more or fewer than rows, and the options of one call.

    Attributes:
      rows: prompt, max_new_tokens and request id of each.
      shared: the options that all prompts share.
    """

    rows: list[tuple[list[int], int, int]]
    shared: dict[str, Any]

    @property
    def prompts(self) -> list[list[int]]:
        return [prompt for prompt, _, _ in self.rows]

    @property
    def limits(self) -> list[int]:
        return [limit for _, limit, _ in self.rows]

    @property
    def ends(self) -> list[int]:
        """The ids that end a row."""
        return self.shared["eos_id"]

    def options(self, **changes: Any) -> dict[str, Any]:
        """Keywords of `generate`, some of them changed."""
        ids = [request_id for _, _, request_id in self.rows]
        return {"max_new_tokens": self.limits, "request_ids": ids} | self.shared | changes

    def chosen(self, indices: Sequence[int]) -> "Queue":
        """Some of the prompts, in this order."""
        return Queue([self.rows[i] for i in indices], self.shared)


@st.composite
def queues(draw: st.DrawFn, setup: Setup) -> Queue:
    """Queues for a setup, with up to twice as many prompts as rows, and one more."""
    row = st.tuples(_PROMPTS, _LIMITS, _REQUEST_IDS)
    rows = draw(st.lists(row, min_size=1, max_size=2 * setup.batch + 1))
    options: dict[str, Any] = {
        "seed": draw(st.integers(0, 2**32 - 1)),
        "eos_id": draw(st.lists(TOKENS, max_size=4, unique=True)),
        "temperature": 0.0 if setup.greedy else draw(st.floats(0.05, 8.0)),
    }
    if setup.top_p:
        options["top_p"] = draw(st.floats(1e-6, 1.0, exclude_max=True))
    if setup.top_k:
        options["top_k"] = draw(st.integers(1, setups.VOCAB_SIZE + 1))
    return Queue(rows, options)
