"""How responses are drawn and stored."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rsd_jax.core.warp import make_warp
from rsd_jax.errors import ConfigError, is_integer, positive_integer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResponseSettings:
    """One set of responses; what `generate` takes has the names that it has there.

    Attributes:
      max_new_tokens: of a response.
      temperatures: every prompt is answered once at each; one that stands twice, twice.
      top_k, top_p: as in `generate`, at every temperature.
      eos_ids: ids that end a response; empty: it always has `max_new_tokens`.
      seed: a response is a function of it, the request id and the prompt.
      batch_size: rows decoded together.
      prompts_per_shard: what an interrupted run repeats at most.
      top_logprobs: K, how many of the target's log probabilities are stored for each response
        token, from a pass of its own; 0 for none.

    Raises:
      ConfigError: a value is out of range.
    """

    max_new_tokens: int
    temperatures: tuple[float, ...] = (1.0,)
    top_k: int | None = None
    top_p: float = 1.0
    eos_ids: tuple[int, ...] = ()
    seed: int = 0
    batch_size: int = 16
    prompts_per_shard: int = 256
    top_logprobs: int = 0

    def __post_init__(self):
        for name in ("max_new_tokens", "batch_size", "prompts_per_shard"):
            positive_integer(name, getattr(self, name))
        if not is_integer(self.top_logprobs) or self.top_logprobs < 0:
            raise ConfigError(f"top_logprobs={self.top_logprobs!r} must be an integer of 0 or more")
        if not self.temperatures:
            raise ConfigError("temperatures is empty; give at least one")
        for temperature in self.temperatures:
            make_warp(temperature, self.top_k, self.top_p)

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> "ResponseSettings":
        """Builds settings.

        Raises:
          ConfigError: a key is unknown, `max_new_tokens` is missing, or see the class.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(raw) - known)
        if unknown:
            raise ConfigError(f"responses have no {unknown[0]!r}; they have {sorted(known)}")
        if "max_new_tokens" not in raw:
            raise ConfigError("responses need `max_new_tokens`")
        lists = {key: tuple(raw[key]) for key in ("temperatures", "eos_ids") if key in raw}
        return cls(**{**raw, **lists})
