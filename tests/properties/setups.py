"""The static choices of the properties: at most twelve programs, and what they decode with."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rsd_jax
from rsd_jax.engine.recording import MOST_BLOCKS
from rsd_jax.testing.tiny_llama import tiny_pair
from tests import tiny

MOST = 12
"""Programs in all: each takes a second or more to compile."""

VOCAB_SIZE = 32
LONGEST_PROMPT, LARGEST_LIMIT = 40, 24
_CAPACITY = 128  # holds every prompt, limit and tree that is drawn
_SCORED = LONGEST_PROMPT + LARGEST_LIMIT


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a compiled loop depends on.

    Attributes:
      method: "method" or "method/verifier" of `tests.tiny`.
      dtype: of weights and logits.
      batch: rows.
      greedy: whether T = 0.
      top_k, top_p: whether these warps are on.
      records: whether every block is recorded.
    """

    method: str
    dtype: str = "float32"
    batch: int = 3
    greedy: bool = False
    top_k: bool = False
    top_p: bool = False
    records: bool = False

    def __str__(self) -> str:
        flags = [name for name in ("greedy", "top_k", "top_p", "records") if getattr(self, name)]
        return "-".join([self.method, self.dtype, str(self.batch), *flags])

    def generate(self, prompts: list[list[int]], **options: Any) -> rsd_jax.GenerateResult:
        """`rsd_jax.generate` with the models and the rows of the setup."""
        options["record_blocks"] = self.records
        with jax.enable_x64(self.dtype == "float64"):
            return rsd_jax.generate(*self._models(), prompts, **self._static(), **options)

    def stream(self, prompts: list[list[int]], blocks: int, **options: Any) -> list[list[int]]:
        """The tokens of `rsd_jax.stream`, put together by prompt.

        Args:
          prompts: token ids.
          blocks: between two reads; not heeded with records, whose program depends on it.
          **options: of `stream`.
        """
        options["blocks_per_step"] = MOST_BLOCKS if self.records else blocks
        options["record_blocks"] = self.records
        answers: list[list[int]] = [[] for _ in prompts]
        with jax.enable_x64(self.dtype == "float64"):
            found = rsd_jax.stream(*self._models(), prompts, **self._static(), **options)
            for row, tokens, *_ in found:
                assert tokens
                answers[row] += tokens
        return answers

    def logits(self, prompt: list[int], answer: list[int]) -> np.ndarray:
        """f64[answer, V]: the target's logits before each token, from one pass over the text."""
        text = [*prompt, *answer]
        padded = np.zeros((1, _SCORED), np.int32)
        padded[0, : len(text)] = text
        with jax.enable_x64(self.dtype == "float64"):
            target, _ = pair(self.dtype)
            found = np.asarray(_score(target.model, target.params, jnp.asarray(padded))[0])
        return found[len(prompt) - 1 : len(text) - 1].astype(np.float64)

    def _models(self) -> tuple[Any, ...]:
        target, draft = pair(self.dtype)
        drafts = self.method.partition("/")[0] in tiny.DRAFTING
        return tiny.method(self.method), target, draft if drafts else None

    def _static(self) -> dict[str, Any]:
        skips = tiny.skips(self.method.partition("/")[0])
        return {"batch_size": self.batch, "capacity": _CAPACITY} | skips


@functools.cache
def pair(dtype: str) -> tuple[rsd_jax.LoadedModel, rsd_jax.LoadedModel]:
    """The pair of `tests.tiny` in a dtype; in float64 within an x64 context."""
    return tiny_pair(share=0.05, dtype=dtype)


@functools.partial(jax.jit, static_argnums=0)
def _score(model: Any, params: Any, tokens: jax.Array) -> jax.Array:
    return model.score(params, tokens)


AUTOREGRESSIVE = Setup("ar", batch=4, greedy=True)
SETUPS = (
    AUTOREGRESSIVE,
    Setup("sd", batch=1, greedy=True),
    Setup("dynamic/block", batch=2, top_p=True),
    Setup("spectr", "bfloat16", top_k=True),
    Setup("rsd_c", records=True),
    Setup("static/coupling", batch=2, top_p=True, records=True),
    Setup("rsd_s", batch=4, greedy=True),
    Setup("mixed_beam/traversal", "float64", 2, top_p=True),
    Setup("rsd_s+3/match", top_p=True),
    Setup("self_rsd_s", batch=4, greedy=True),
    Setup("swift"),
    Setup("lookup/coupling", batch=2, top_p=True),
)
"""Together every method of `tests.tiny` but `dyspec`, which grows trees as `mixed_beam` does, and
every verifier, kind of tree, dtype, size of a batch and warp. Five of them are programs of other
tests too (`engine/test_identity.py`, `test_rows.py`)."""
