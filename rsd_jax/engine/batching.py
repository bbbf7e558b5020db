"""From lists of token ids to checked, padded arrays."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from rsd_jax.core.types import LanguageModel
from rsd_jax.engine.decoding import required_capacity
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Request
from rsd_jax.engine.state import Prompts
from rsd_jax.errors import ConfigError, is_integer, positive_integer

_SMALLEST_BUCKET = 128
_EOS_SLOTS = 4
_NO_TOKEN = -1
INPUT_IDS = '["input_ids"]'  # where the encodings of transformers hold token ids


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch on the host; rows beyond the first `rows` are padding, of length 0.

    Attributes:
      rows: number of rows that hold a prompt.
      first: index of the first row among all prompts.
      prompts: numpy arrays.
    """

    rows: int
    first: int
    prompts: Prompts


def bucket(size: int) -> int:
    """The smallest power of two >= size, at least 128; sizes in one bucket share a program."""
    return max(_SMALLEST_BUCKET, 1 << (size - 1).bit_length())


def check_prompts(
    prompts: Sequence[Sequence[int]],
    limit_of: Callable[[int], int],
    target: LanguageModel,
    draft: LanguageModel | None = None,
) -> None:
    """Checks the prompts, whose ids are the target's.

    Args:
      prompts: as in `generate`.
      limit_of: index of a prompt to its max_new_tokens.
      target, draft: of the method.

    Raises:
      ConfigError: a prompt cannot be decoded; names the first such prompt and the reason.
    """
    if isinstance(prompts, Mapping):
        raise ConfigError(
            f"prompts is a {type(prompts).__name__} of a tokenizer; give {INPUT_IDS} of it (and "
            "encode without padding)"
        )
    if not isinstance(prompts, (Sequence, np.ndarray)):
        raise ConfigError(f"prompts must be a list of lists of token ids; got {type(prompts)}")
    if len(prompts) == 0:
        raise ConfigError("prompts is empty; give at least one list of token ids")
    vocab_size = target.vocab_size
    positions, which = fewest_positions(target, draft)
    for row, prompt in enumerate(prompts):
        if isinstance(prompt, str):
            raise ConfigError(f"prompt {row} is text; encode it to token ids first")
        if isinstance(prompt, Mapping):
            raise ConfigError(
                f"prompt {row} is a {type(prompt).__name__} of a tokenizer; give {INPUT_IDS} of it"
            )
        try:
            ids = np.asarray(prompt)
        except ValueError:  # nested lists of different lengths
            raise ConfigError(f"prompt {row} must be a flat list of integer token ids") from None
        if ids.size == 0:
            raise ConfigError(f"prompt {row} is empty; give at least one token, e.g. BOS")
        if ids.ndim > 1:
            raise ConfigError(
                f"prompt {row} has the shape {list(ids.shape)}, but must be a flat list of integer "
                "token ids; give each row of it as a prompt"
            )
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ConfigError(f"prompt {row} must be a flat list of integer token ids")
        if ids.min() < 0 or ids.max() >= vocab_size:
            bad = int(ids[(ids < 0) | (ids >= vocab_size)][0])
            raise ConfigError(
                f"prompt {row} holds token id {bad}, outside the vocabulary [0, {vocab_size})"
            )
        if len(prompt) + limit_of(row) > positions:
            raise ConfigError(
                f"prompt {row} has {len(prompt)} tokens; with max_new_tokens={limit_of(row)} "
                f"that exceeds the {which}'s {positions} positions; shorten the prompt or lower "
                "max_new_tokens"
            )


def fewest_positions(target: LanguageModel, draft: LanguageModel | None) -> tuple[int, str]:
    """The longest sequence that both models support, and the name of the model that sets it."""
    if draft is not None and draft.max_positions < target.max_positions:
        return draft.max_positions, "draft"
    return target.max_positions, "target"


def check_models(method: Method, target: LanguageModel, draft: LanguageModel | None) -> None:
    """Raises `ConfigError` if a method cannot run with these models."""
    if method.drafter.needs_draft_model and draft is None:
        raise ConfigError(f"method {method.name!r} needs a draft model; got draft=None")
    siblings = method.drafter.distinct_siblings
    if siblings > target.vocab_size:
        raise ConfigError(
            f"method {method.name!r} asks for {siblings} distinct siblings, more than the "
            f"vocabulary's {target.vocab_size} tokens; lower its width or branching"
        )


def eos_array(eos_ids: Sequence[int], vocab_size: int) -> np.ndarray:
    """i32[E]: the EOS ids, padded so that their number seldom changes the shape.

    Raises:
      ConfigError: an id is outside the vocabulary.
    """
    for token in eos_ids:
        if not is_integer(token) or not 0 <= token < vocab_size:
            raise ConfigError(f"eos_id {token!r} is outside the vocabulary [0, {vocab_size})")
    width = max(_EOS_SLOTS, len(eos_ids))
    return np.asarray([*eos_ids] + [_NO_TOKEN] * (width - len(eos_ids)), np.int32)


def split(request: Request, method: Method, *, multiple: int = 1) -> Iterator[Batch]:
    """Cuts the prompts of a request into batches of one shape.

    Args:
      request: its prompts have been checked by `check_prompts`.
      method: its drafter decides how much spare capacity is needed.
      multiple: the number of rows is padded to a multiple of this (the shards of the data axis).

    Raises:
      ConfigError: request_ids, batch_size or capacity cannot be used.
    """
    prompts, size = request.prompts, len(request.prompts)
    if request.batch_size is not None:
        size = positive_integer("batch_size", request.batch_size, ", or None")
    ids = list(range(len(prompts)) if request.request_ids is None else request.request_ids)
    if len(ids) != len(prompts):
        raise ConfigError(f"got {len(ids)} request_ids for {len(prompts)} prompts")
    if any(not is_integer(i) or not 0 <= i < 2**31 for i in ids):
        raise ConfigError("request_ids must be integers in [0, 2**31)")
    padded = -(-size // multiple) * multiple
    positions = capacity_of(request, method)
    for first in range(0, len(prompts), size):
        chosen = prompts[first : first + size]
        tokens = np.zeros((padded, positions), np.int32)
        lengths, limits, requests = np.zeros((3, padded), np.int32)
        for row, prompt in enumerate(chosen):
            tokens[row, : len(prompt)] = prompt
            lengths[row] = len(prompt)
            limits[row] = request.limit_of(first + row)
            requests[row] = ids[first + row]
        yield Batch(len(chosen), first, Prompts(tokens, lengths, limits, requests))


def capacity_of(request: Request, method: Method) -> int:
    """Number of positions of the caches for a request; each such number compiles a program.

    Raises:
      ConfigError: the request's capacity is not a positive integer.
    """
    least = 1
    if request.capacity is not None:
        least = positive_integer("capacity", request.capacity, ", or None")
    sizes = {(len(prompt), request.limit_of(i)) for i, prompt in enumerate(request.prompts)}
    needed = (required_capacity(method.drafter, *each) for each in sizes)
    return bucket(max(least, *needed))
