"""Windows that the draft wrote: contexts as drafting meets them, for the target to score.

On-policy distillation (Agarwal et al. 2024, GKD; for drafts Zhou et al. 2024, DistillSpec).
"""

from collections.abc import Sequence

import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.data.windows import Windows
from rsd_jax.distillation.responses.source import as_source
from rsd_jax.distillation.settings import OnPolicy
from rsd_jax.engine.generation import decode
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import build_method
from rsd_jax.engine.request import Request
from rsd_jax.errors import ConfigError, positive_integer

# Keeps these draws apart from those of the stored data, which have (seed, step) alone.
_STREAM = 1


def draft_windows(
    draft: LoadedModel,
    prompts: Sequence[Sequence[int]],
    options: OnPolicy,
    *,
    seed: int,
    step: int,
    count: int,
    length: int,
    batch_size: int | None = None,
) -> Windows:
    """Windows of random prompts and what the draft goes on with; `fraction` is not looked at.

    They are a function of the draft's parameters, the prompts and (seed, step): the engine
    compiles nothing when the parameters change.

    Cost: `batch_size` rows decoded autoregressively by the draft, that is a prefill and up to
    `max_new_tokens` passes one token wide. The target does not run.

    Args:
      draft: with its parameters as they are now, on which the training step must not have run
        yet, as it donates them.
      prompts: lists of token ids.
      options: how to draw.
      seed: of the run.
      step: of the run.
      count: how many windows.
      length: labels of a window.
      batch_size: sequences that are decoded, at least `count`: with more, windows overlap less.
        The same in every step keeps it to one program; `count` by default.

    Returns:
      Windows without `top`; a window holds sequences back to back, `mask` the continuations.

    Raises:
      ConfigError: a prompt does not fit the model or the window, or another argument is unusable.
      NonFiniteLogitsError: see `generate`.
    """
    sequences = positive_integer("count", count) if batch_size is None else batch_size
    if sequences < count:
        raise ConfigError(f"batch_size={batch_size} must be at least count={count}")
    if len(prompts) == 0:
        raise ConfigError("prompts is empty; give at least one list of token ids")
    rng = np.random.default_rng((seed, step, _STREAM))
    chosen = [prompts[i] for i in rng.integers(0, len(prompts), sequences)]
    request = Request(prompts=chosen, sampling=options.sampling(int(rng.integers(0, 2**32))))
    result = decode(prepare(build_method("ar"), draft, None, request))
    written = [[*prompt, *new] for prompt, new in zip(chosen, result.tokens, strict=True)]
    source = as_source(
        "draft",
        np.concatenate(written).astype(np.int32),
        np.asarray([len(sequence) for sequence in written]),
        np.asarray([len(prompt) for prompt in chosen]),
    )
    assert source.starts is not None
    return source.windows(source.starts[np.arange(count) * sequences // count], length)


def mix_on_policy(
    windows: Windows,
    draft: LoadedModel,
    prompts: Sequence[Sequence[int]],
    options: OnPolicy,
    *,
    seed: int,
    step: int,
) -> Windows:
    """Replaces each window of a step's batch by one of the draft's with chance `fraction`.

    How many there are is `fraction` of the batch rounded up or down at random, so that the share
    is exact in expectation. The others stay as they are. Costs what `draft_windows` costs, in
    the steps in which there are any.

    Args:
      windows: of the step, without `top`.
      draft, prompts, options, seed, step: see `draft_windows`.

    Returns:
      The new windows, with a mask.

    Raises:
      as `draft_windows`; ConfigError: the windows have `top`, which a draft does not write.
    """
    if windows.top is not None:
        raise ConfigError("on-policy windows have no stored log probabilities; give a teacher")
    tokens = windows.tokens.copy()
    batch, length = len(tokens), tokens.shape[1] - 1
    mask = np.ones((batch, length), bool) if windows.mask is None else windows.mask.copy()
    rng = np.random.default_rng((seed, step, _STREAM + 1))
    rows = rng.permutation(batch)[: int(options.fraction * batch + rng.random())]
    if len(rows) > 0:
        written = draft_windows(
            draft,
            prompts,
            options,
            seed=seed,
            step=step,
            count=len(rows),
            length=length,
            batch_size=batch,
        )
        tokens[rows], mask[rows] = written.tokens, written.mask
    return Windows(tokens, mask)
