"""Shared by the joint-law tests: the pair, the prompts, the methods, and the comparison."""

import functools

import jax
import numpy as np

import rsd_jax
from rsd_jax.testing.joint_law import check_joint_law
from rsd_jax.testing.statistics import ChiSquare
from rsd_jax.testing.table_model import TableModel, reference_warp, sequence_law

MODEL = TableModel()
PROMPTS = ((0,), (1, 2), (2, 0, 1), (1, 1, 0, 2))
NUM_TOKENS = 7
"""More than two whole blocks of draft length 2, so that every sample crosses two boundaries."""
BATCH = 8192
ROUNDS = 3

METHODS = {
    "ar": {},
    # At these temperatures a chain of two would rarely be accepted whole.
    "lookup": {"length": 1, "longest": 3, "shortest": 1},
    "sd": {"length": 2},
    "dynamic": {"length": 2, "stop_below": 0.35},
    "spectr": {"num_drafts": 2, "length": 2},
    "rsd_c": {"branching": (2, 2)},
    "rsd_s": {"width": 2, "length": 2},
    "dyspec": {"width": 2, "length": 2, "threshold": 0.2},
    "mixed_beam": {"width": 3, "length": 2, "threshold": 0.1},
    "rsd_c+2": {"branching": (2, 1), "lookup": 2},
    "static": {"parents": (-1, 0, 0, 1, 2, 2)},
    "self_beam": {"width": 2, "length": 2, "threshold": 0.1},
    "self_rsd_c": {"branching": (2, 2)},
    # The vocabulary has three tokens. With these values every class of confidence occurs, and so do
    # both ways to stop.
    "swift": {
        "length": 2,
        "stop_below": 0.4,
        "confidences": (0.7, 0.5),
        "counts": (1, 2, 3),
        "greedy_counts": (1, 2, 3),
        "widths": (2, 4, 8),
    },
}
_SKIPS = np.asarray([[False, True], [True, False]])


def method(name: str, **options) -> rsd_jax.Method:
    """A method of `METHODS`, with more options."""
    return rsd_jax.build_method(name.partition("+")[0], **METHODS[name], **options)


def skips(method: rsd_jax.Method, num_layers: int = 2) -> dict[str, np.ndarray]:
    """The option `skips` for methods that draft with the target."""
    return {"skips": _SKIPS[:num_layers]} if method.drafter.needs_skips else {}


@functools.cache
def pair() -> tuple[rsd_jax.LoadedModel, rsd_jax.LoadedModel]:
    """A target, and a draft that often agrees with the target, but not always."""
    params = MODEL.init_params(jax.random.key(0), scale=1.5)
    draft = MODEL.perturbed(params, jax.random.key(1), scale=1.5)
    return rsd_jax.LoadedModel(MODEL, params), rsd_jax.LoadedModel(MODEL, draft)


@functools.cache
def _law(prompt: int, num_tokens: int, warp: tuple[tuple[str, float], ...]) -> np.ndarray:
    params = jax.device_get(pair()[0].params)
    return sequence_law(MODEL, params, list(PROMPTS[prompt]), num_tokens, **dict(warp))


def law(prompt: int, num_tokens: int, **warp) -> np.ndarray:
    """The enumerated autoregressive law of `num_tokens` tokens after PROMPTS[prompt]."""
    return _law(prompt, num_tokens, tuple(sorted(warp.items())))


def network_law(
    target: rsd_jax.LoadedModel, prompt: int, num_tokens: int, **warp: float
) -> np.ndarray:
    """The law of `law` under any model: every sequence of tokens is scored whole, in one pass.

    Args:
      target: of a small vocabulary.
      prompt: index of PROMPTS.
      num_tokens: of a continuation.
      **warp: see `reference_warp`.
    """
    size = target.model.vocab_size
    known = np.asarray(PROMPTS[prompt])
    tails = np.indices((size,) * (num_tokens - 1)).reshape(num_tokens - 1, -1).T
    rows = np.concatenate([np.tile(known, (len(tails), 1)), tails], axis=1)
    logits = _score(target.model, target.params, rows.astype(np.int32))
    found = np.ones(1)
    for step, at in enumerate(range(len(known) - 1, rows.shape[1])):
        # Of all rows that begin alike, the first.
        each = np.asarray(logits[:: size ** (num_tokens - 1 - step), at])
        probs = reference_warp(each, **({"temperature": 1.0} | warp))
        found = (found[:, None] * probs).reshape(-1)
    return found.reshape((size,) * num_tokens)


_score = jax.jit(lambda model, params, tokens: model.score(params, tokens), static_argnums=0)


def sample(
    method: rsd_jax.Method, models=None, *, rounds: int = ROUNDS, batch: int = BATCH, **options
) -> rsd_jax.GenerateResult:
    """Decodes `rounds` batches of `batch` rows; the rows of all prompts are interleaved.

    Rows of the same prompt differ in their request ids. `models`: another pair than `pair()`.
    """
    prompts = [PROMPTS[row % len(PROMPTS)] for row in range(rounds * batch)]
    options = {"max_new_tokens": NUM_TOKENS, "batch_size": batch} | skips(method) | options
    return rsd_jax.generate(method, *(models or pair()), prompts, **options)


def check(tokens: np.ndarray, *, false_alarm: float, law_of=law, **warp) -> list[ChiSquare]:
    """Compares rows int[B, n], in the order of `sample`, with the enumerated law.

    Args:
      tokens: the rows.
      false_alarm: of each test.
      law_of: the law after a prompt, called as `law`.
      **warp: of the law.

    Returns:
      one test per prompt, then one test of all prompts together.
    """
    groups = [tokens[prompt :: len(PROMPTS)] for prompt in range(len(PROMPTS))]
    laws = [law_of(prompt, tokens.shape[1], **warp) for prompt in range(len(PROMPTS))]
    one_by_one = [
        check_joint_law([group], [law], false_alarm=false_alarm)
        for group, law in zip(groups, laws, strict=True)
    ]
    return [*one_by_one, check_joint_law(groups, laws, false_alarm=false_alarm)]
