"""Training data from the target: its responses to prompts at the temperatures of deployment.

A draft should learn the target's law on the contexts of decoding, which are the target's own
responses (Kim & Rush 2016; for drafts Goel et al. 2024).
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rsd_jax.core.processes import on_writer
from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.responses.identities import (
    manifest_identity,
    prompts_identity,
    tokenizer_identity,
)
from rsd_jax.distillation.responses.manifest import begin
from rsd_jax.distillation.responses.recorded import decode_recorded
from rsd_jax.distillation.responses.shards import (
    TOP_FIELDS,
    Shard,
    check_shard,
    shard_path,
    token_dtype,
    write_shard,
)
from rsd_jax.distillation.responses.top_logprobs import top_logprobs
from rsd_jax.distillation.settings import ResponseSettings
from rsd_jax.engine.batching import check_prompts
from rsd_jax.engine.generation import decode
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import Method, build_method
from rsd_jax.engine.request import Request
from rsd_jax.engine.results import FINISH_EOS
from rsd_jax.errors import ConfigError

Prompts = Mapping[str, Sequence[int]]
"""Token ids of each prompt by its name."""


@dataclasses.dataclass(frozen=True)
class ShardProgress:
    """Progress of a run after a shard.

    Attributes:
      shards: finished shards, including those of earlier runs.
      total: all shards.
      responses, tokens: responses that this run has generated, and their tokens.
      seconds: time since this run began to generate, compilation included.
    """

    shards: int
    total: int
    responses: int
    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens per second."""
        return self.tokens / self.seconds


def generate_responses(
    target: LoadedModel,
    prompts: Prompts,
    settings: ResponseSettings,
    directory: str | pathlib.Path,
    *,
    tokenizer: Any,
    method: Method | None = None,
    draft: LoadedModel | None = None,
    progress: Callable[[ShardProgress], None] | None = None,
) -> dict[str, Any]:
    """Writes the target's responses to `directory`; shards that are there already are kept.

    The request id of a response is prompt_index * len(temperatures) + temperature_index. A run
    that was killed and restarted writes the same bytes as an uninterrupted run on the same
    machine with the same versions. With several processes, the first writes for all.

    Args:
      target: the model that responds.
      prompts: encoded with `tokenizer`.
      settings: how to draw the responses.
      directory: receives manifest.json and the shards, see `shards`.
      tokenizer: tokenizer of target and prompts, with `get_vocab`; its hash is in the manifest.
      method: how to decode, `ar` by default; methods draw from one law, but not the same tokens.
      draft: for methods that need a draft model.
      progress: called after each shard.

    Returns:
      The manifest.

    Raises:
      ConfigError: an argument cannot be used, or `directory` was begun with other settings;
        raised before anything is generated.
      CheckpointError: the manifest or an existing shard is damaged or of another run.
      NonFiniteLogitsError: see `generate`; the shard is not written.
    """
    method = method or build_method("ar")
    draft = draft if method.drafter.needs_draft_model else None
    _check(target, draft, prompts, settings, method)
    directory = pathlib.Path(directory)
    size = settings.prompts_per_shard
    total = -(-len(prompts) // size)
    identities = {
        "method": [method.name, method.tree, method.draft_temperature, method.draft_top_k],
        "prompts": prompts_identity(prompts),
        "tokenizer": tokenizer_identity(tokenizer, target.model.vocab_size),
        "target": manifest_identity(target),
        "draft": manifest_identity(draft) if draft is not None else None,
    }
    manifest, missing = on_writer(
        _begin, directory, dataclasses.asdict(settings) | identities, total
    )
    begun, responses, tokens = time.perf_counter(), 0, 0
    answered = functools.partial(_answer, target, draft, method, settings)
    names, ids = list(prompts), list(prompts.values())
    for done, index in enumerate(missing, start=1 + total - len(missing)):
        chosen = slice(index * size, (index + 1) * size)
        shard = answered(names[chosen], ids[chosen], first=index * size)
        on_writer(write_shard, directory, index, shard, manifest["config_hash"])
        responses += len(shard.length)
        tokens += len(shard.tokens) - int(shard.prompt_length.sum())
        if progress is not None:
            progress(ShardProgress(done, total, responses, tokens, time.perf_counter() - begun))
    return manifest


def _begin(
    directory: pathlib.Path, settings: Mapping[str, Any], total: int
) -> tuple[dict[str, Any], list[int]]:
    """The manifest, and the shards that are missing; those that are there are checked."""
    manifest = begin(directory, settings, total)
    missing = [index for index in range(total) if not shard_path(directory, index).exists()]
    for index in sorted(set(range(total)) - set(missing)):
        check_shard(directory, index, manifest["config_hash"])
    return manifest, missing


def _check(
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Prompts,
    settings: ResponseSettings,
    method: Method,
) -> None:
    """Raises the errors that `generate` would raise in a later shard."""
    draft_model = draft.model if draft is not None else None
    check_prompts(
        list(prompts.values()), lambda _: settings.max_new_tokens, target.model, draft_model
    )
    first = Request(prompts=list(prompts.values())[:1], sampling=settings.samplings()[0])
    prepare(method, target, draft, first)
    if len(prompts) * len(settings.temperatures) > 2**31:
        raise ConfigError(f"{len(prompts)} prompts are too many: request ids end at 2**31")
    if settings.top_logprobs > target.model.vocab_size:
        raise ConfigError(
            f"top_logprobs={settings.top_logprobs} is more than the vocabulary's "
            f"{target.model.vocab_size} tokens"
        )


def _answer(
    target: LoadedModel,
    draft: LoadedModel | None,
    method: Method,
    settings: ResponseSettings,
    names: list[str],
    prompts: list[Sequence[int]],
    *,
    first: int,
) -> Shard:
    """One shard; `first` is the index of its first prompt.

    Sequences are ordered by temperature and then by prompt. Otherwise two responses to one prompt
    would often be in one window, where the model can copy.
    """
    count, size = len(settings.temperatures), settings.batch_size
    sequences: list[list[int]] = []
    requests: list[int] = []
    reasons: list[str] = []
    recorded: list[dict[str, np.ndarray]] = []
    # A method without drafts passes over each response token once, and has its law at hand.
    records = settings.top_logprobs > 0 and method.drafter.shape.depth == 0
    for which, sampling in enumerate(settings.samplings()):
        ids = [(first + row) * count + which for row in range(len(prompts))]
        request = Request(prompts=prompts, sampling=sampling, request_ids=ids, batch_size=size)
        job = prepare(method, target, draft, request)
        if records:
            result, top = decode_recorded(job, settings.top_logprobs, settings.max_new_tokens)
            recorded.append(top)
        else:
            result = decode(job)
        sequences += [[*p, *new] for p, new in zip(prompts, result.tokens, strict=True)]
        requests += ids
        reasons += result.finish_reason
    lengths = [len(prompt) for prompt in prompts] * count
    shard = Shard(
        tokens=np.concatenate(sequences).astype(token_dtype(target.model.vocab_size)),
        length=np.asarray([len(sequence) for sequence in sequences], np.int32),
        prompt_length=np.asarray(lengths, np.int32),
        request_id=np.asarray(requests, np.int32),
        temperature=np.repeat(np.asarray(settings.temperatures, np.float64), len(prompts)),
        ended=np.asarray(reasons) == FINISH_EOS,
        name=np.asarray(names * count, str),
    )
    if not settings.top_logprobs:
        return shard
    if records:
        top = {name: np.concatenate([each[name] for each in recorded]) for name in TOP_FIELDS}
    else:
        top = top_logprobs(target, sequences, lengths, settings.top_logprobs, batch_size=size)
    return dataclasses.replace(shard, **top)
