"""Windows that the draft writes, for the target to score: the contexts of drafting.

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

# Keeps these draws independent of the draws of stored data, which use only (seed, step).
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
    """Windows of random prompts and the draft's continuations; `options.fraction` is ignored.

    The windows are a function of the draft's parameters, the prompts and (seed, step). New
    parameters compile nothing.

    Cost: the draft decodes `batch_size` rows autoregressively, with a prefill and up to
    `max_new_tokens` passes one token wide. The target does not run.

    Args:
      draft: the draft with its current parameters; call this before the training step, which
        donates the parameters.
      prompts: lists of token ids.
      options: how to sample.
      seed, step: of the run.
      count: how many windows.
      length: labels of a window.
      batch_size: sequences to decode, at least `count` (the default); with more sequences, windows
        overlap less. The same number in every step needs only one program.

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
    """Replaces each window of a step's batch by a window of the draft with probability `fraction`.

    The number of replaced windows is `fraction` of the batch, randomly rounded up or down so that
    the share is exact in expectation. A step that replaces windows costs one `draft_windows`.

    Args:
      windows: windows of the step, without `top`.
      draft, prompts, options, seed, step: see `draft_windows`.

    Returns:
      The new windows, with a mask.

    Raises:
      as `draft_windows`; ConfigError: the windows have `top`, which new windows lack.
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
