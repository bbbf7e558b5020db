"""What a run is asked for: prompts, how their tokens are sampled, and how they are batched."""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any, Required, Self, TypedDict, Unpack

import numpy as np

from rsd_jax.core.warp import Warp, check_warp, make_warp
from rsd_jax.errors import ConfigError, is_integer, positive_integer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedSampling:
    """What a configuration says once for all its temperatures and seeds; see `Sampling`.

    Raises:
      ConfigError: a value is out of range.
    """

    max_new_tokens: int
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self):
        # As an int: numpy's narrow integers wrap around in a sum.
        limit = positive_integer("max_new_tokens", self.max_new_tokens)
        object.__setattr__(self, "max_new_tokens", limit)
        check_warp(1.0, self.top_k, self.top_p)

    def at(self, temperature: float, *, seed: int = 0, eos_ids: Sequence[int] = ()) -> "Sampling":
        """The sampling at one temperature.

        Raises:
          ConfigError: a value is out of range.
        """
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(SharedSampling)}
        return Sampling(temperature=temperature, seed=seed, eos_ids=tuple(eos_ids), **shared)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(SharedSampling):
    """How tokens are sampled, whatever the prompts and the method.

    Attributes:
      max_new_tokens: at least 1.
      temperature: 0 is greedy; top_k and top_p are then ignored.
      top_k: keeps the k most likely tokens, ties with the k-th kept; None for all.
      top_p: keeps the most likely tokens whose mass reaches top_p, ties with the last of them kept;
        in (0, 1].
      seed: a row's draws come from (seed, request id) alone.
      eos_ids: token ids that end a row; empty: nothing ends it early.

    >>> Sampling(max_new_tokens=64, temperature=0.3, top_p=1.5)
    Traceback (most recent call last):
      ...
    rsd_jax.errors.ConfigError: top_p=1.5 must lie in (0, 1]; 1 keeps every token

    Raises:
      ConfigError: a value is out of range.
    """

    temperature: float = 1.0
    seed: int = 0
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        check_warp(self.temperature)
        if not is_integer(self.seed) or not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed={self.seed!r} must be an integer in [0, 2**32)")

    @property
    def target_warp(self) -> Warp:
        """From the target's logits to the law that is sampled."""
        return make_warp(self.temperature, self.top_k, self.top_p)

    def settings(self) -> dict[str, Any]:
        """The fields as `config_hash` has covered them since the first rows."""
        values = dataclasses.asdict(self)
        return values | {"eos_id": values.pop("eos_ids") or None}


class RequestOptions(TypedDict, total=False):
    """The keywords that `generate`, `stream` and `generate_with_search` have in common.

    max_new_tokens: at least 1; or one number per prompt.
    temperature: 0 is greedy; top_k and top_p are then ignored.
    top_k: keeps the k most likely tokens, ties with the k-th kept; None for all.
    top_p: keeps the most likely tokens whose mass reaches top_p, ties with the last of them kept;
      in (0, 1].
    seed: a row's draws come from (seed, request id) alone: not from its batch, its place in it, or
      the other rows.
    eos_id: token id or ids that end a row; None never stops early.
    request_ids: one per prompt, by default 0, 1, 2, ...
    batch_size: rows decoded together; None for all. In `generate` and `stream`, a row that is done
      takes the next prompt.
    capacity: least positions of the caches; None for what these prompts need. A program is
      compiled for each power of two: calls that give the same capacity share one, though their
      prompts differ in length. What is not used costs memory and next to no time.
    """

    max_new_tokens: Required[int | Sequence[int]]
    temperature: float
    top_k: int | None
    top_p: float
    seed: int
    eos_id: int | Sequence[int] | None
    request_ids: Sequence[int] | None
    batch_size: int | None
    capacity: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """Prompts and everything that is asked of their decoding; see `RequestOptions`.

    Attributes:
      prompts: lists of token ids.
      sampling: how tokens are sampled; its max_new_tokens is the largest of `limits`.
      limits: max_new_tokens of each prompt; None: that of `sampling` for all.
      request_ids, batch_size, capacity: as in `RequestOptions`.
      skips: bool[layers, 2], for methods that draft with the target: the sub-layers left out
        while drafting; None for every second layer.
    """

    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    limits: Sequence[int] | None = None
    request_ids: Sequence[int] | None = None
    batch_size: int | None = None
    capacity: int | None = None
    skips: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int]],
        *,
        skips: np.ndarray | None = None,
        **options: Unpack[RequestOptions],
    ) -> Self:
        """The request that the keywords of `generate` make.

        Raises:
          TypeError: an option is unknown, or max_new_tokens is missing.
          ConfigError: a value is out of range.
        """
        unknown = sorted(set(options) - set(_DEFAULTS))
        if unknown:
            raise TypeError(f"unknown option {unknown[0]!r}; the options are {list(_DEFAULTS)}")
        if "max_new_tokens" not in options:
            raise TypeError("the option 'max_new_tokens' is missing")
        values: dict[str, Any] = dict(options)
        eos_id = values.pop("eos_id", None)
        eos_ids = () if eos_id is None else tuple(np.atleast_1d(np.asarray(eos_id)).tolist())
        limits = _limits(values["max_new_tokens"], prompts)
        values["max_new_tokens"] = max(limits) if limits else values["max_new_tokens"]
        own = {f.name: values.pop(f.name) for f in dataclasses.fields(Sampling) if f.name in values}
        sampling = Sampling(**own, eos_ids=eos_ids)
        return cls(prompts=prompts, sampling=sampling, limits=limits, skips=skips, **values)

    def limit_of(self, prompt: int) -> int:
        """max_new_tokens of the prompt with this index."""
        return self.sampling.max_new_tokens if self.limits is None else self.limits[prompt]


def _limits(given: Any, prompts: Sequence[Any]) -> list[int] | None:
    """max_new_tokens of each prompt; None if one number is given.

    Raises:
      ConfigError: a number is not positive, or there are not as many as prompts.
    """
    if np.ndim(given) == 0:
        return None
    if len(given) != len(prompts):
        raise ConfigError(
            f"got {len(given)} numbers as max_new_tokens for {len(prompts)} prompts; give one "
            "number, or one per prompt"
        )
    return [positive_integer(f"max_new_tokens[{i}]", each) for i, each in enumerate(given)]


def _defaults() -> dict[str, Any]:
    """The default of every option, from the dataclass that holds the option."""
    fields = {f.name: f.default for kind in (Sampling, Request) for f in dataclasses.fields(kind)}
    return {
        name: inspect.Parameter.empty if name == "max_new_tokens" else fields.get(name)
        for name in typing.get_type_hints(RequestOptions)
    }


_DEFAULTS = _defaults()

F = typing.TypeVar("F", bound=Callable[..., Any])


def shows_options(function: F) -> F:
    """Shows `RequestOptions` in a function's signature and docstring, in place of **options."""
    signature, hints = inspect.signature(function), typing.get_type_hints(RequestOptions)
    given = signature.parameters.values()
    named = [p for p in given if p.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for (name, default), kind in zip(_DEFAULTS.items(), hints.values(), strict=True)
    ]
    function.__signature__ = signature.replace(parameters=[*named, *options])  # type: ignore[attr-defined]
    described = inspect.getdoc(RequestOptions) or ""  # python -OO drops docstrings
    lines = described.partition("\n\n")[2].replace("\n", "\n      ")
    function.__doc__ = (function.__doc__ or "").replace("**options: see `RequestOptions`.", lines)
    return function
