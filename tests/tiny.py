"""A tiny Llama pair, prompts of unequal lengths and small methods.

Many tests use these, so that they share compiled programs.
"""

import functools

import numpy as np

import rsd_jax
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel
from rsd_jax.testing.tiny_llama import tiny_pair

METHODS = {
    "ar": {},
    "lookup": {"length": 3, "longest": 4, "shortest": 1},
    "sd": {"length": 3},
    "dynamic": {"length": 4, "stop_below": 0.3},
    "spectr": {"num_drafts": 2, "length": 2},
    "rsd_c": {"branching": (2, 2)},
    "rsd_s": {"width": 3, "length": 2},
    "dyspec": {"width": 3, "length": 2, "threshold": 0.1},
    "mixed_beam": {"width": 3, "length": 2, "threshold": 0.1},
    "rsd_s+3": {"width": 3, "length": 2, "lookup": 3},
    "static": {"parents": (-1, 0, 0, 0, 1, 3, 3)},
    "self_rsd_s": {"width": 3, "length": 2},
    "swift": {
        "length": 3,
        "stop_below": 0.2,
        "confidences": (0.8, 0.5, 0.2),
        "counts": (1, 2, 3, 5),
        "greedy_counts": (1, 2, 3, 5),
        "widths": (4, 8, 16),
    },
}
SELF_DRAFTING = ("self_rsd_s", "swift")
WITHOUT_MODEL = ("ar", "lookup")
DRAFTING = tuple(name for name in METHODS if name not in (*WITHOUT_MODEL, *SELF_DRAFTING))
"""Methods that draft with a draft model."""
WHOLE_TREES = tuple(name for name in DRAFTING if name not in ("dyspec", "mixed_beam"))
"""Those that accept whole trees if the draft is the target: a threshold may leave slots empty, and
a likeliest token may be the wrong one."""

OF_EACH_DRAFTER = tuple(name for name in METHODS if name not in ("rsd_c", "mixed_beam", "static"))
"""One method of each kind of drafter; chains, beams and trees with a threshold are kinds too."""

_SKIPS = np.asarray([[False, False], [False, True]])

# The model that tests of training train.
TRAINED = LlamaModel(
    LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        tied_embeddings=True,
    )
)

PROMPTS = [[7], [3, 19], [11, 2, 30, 5, 5], [1, 28, 9, 14, 0, 23, 6, 17]]
NUM_TOKENS = 32


@functools.cache
def pair() -> tuple[rsd_jax.LoadedModel, rsd_jax.LoadedModel]:
    """A target, and a draft whose laws are close to the target's."""
    return tiny_pair(share=0.05)


def method(name: str) -> rsd_jax.Method:
    """A method of `METHODS`, or "method/verifier"."""
    name, _, verifier = name.partition("/")
    return rsd_jax.build_method(
        name.partition("+")[0], **METHODS[name], **({"verifier": verifier} if verifier else {})
    )


def skips(name: str) -> dict[str, np.ndarray]:
    """The option `skips` for methods that draft with the target: the last MLP."""
    return {"skips": _SKIPS} if name in SELF_DRAFTING else {}


def rows(result: rsd_jax.GenerateResult, order) -> tuple[list[list[int]], np.ndarray]:
    """Tokens and block counts of the rows, in the given order."""
    return [result.tokens[i] for i in order], result.stats.blocks[list(order)]
