"""How responses are drawn and stored."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rsd_jax.engine.request import Sampling, SharedSampling
from rsd_jax.errors import ConfigError, is_integer, positive_integer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResponseSettings(SharedSampling):
    """One set of responses.

    Attributes:
      max_new_tokens, top_k, top_p, eos_ids: of a response, see `Sampling`.
      temperatures: every prompt is answered once at each; one that stands twice, twice.
      seed: a response is a function of it, the request id and the prompt.
      batch_size: rows decoded together.
      prompts_per_shard: what an interrupted run repeats at most.
      top_logprobs: K, how many of the target's log probabilities are stored for each response
        token, from a pass of its own; 0 for none.

    Raises:
      ConfigError: a value is out of range.
    """

    temperatures: tuple[float, ...] = (1.0,)
    eos_ids: tuple[int, ...] = ()
    seed: int = 0
    batch_size: int = 16
    prompts_per_shard: int = 256
    top_logprobs: int = 0

    def __post_init__(self):
        super().__post_init__()
        for name in ("batch_size", "prompts_per_shard"):
            positive_integer(name, getattr(self, name))
        if not is_integer(self.top_logprobs) or self.top_logprobs < 0:
            raise ConfigError(f"top_logprobs={self.top_logprobs!r} must be an integer of 0 or more")
        if not self.temperatures:
            raise ConfigError("temperatures is empty; give at least one")
        self.samplings()

    def samplings(self) -> list[Sampling]:
        """How a response is drawn, by temperature."""
        return [self.at(t, seed=self.seed, eos_ids=self.eos_ids) for t in self.temperatures]

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
