"""The random pair that is measured, and its methods in the middle of decoding."""

import dataclasses
import functools
import gc
from typing import Any

import numpy as np

from rsd_jax.core.backend import Backend
from rsd_jax.core.skips import start_set
from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import Method, build_method
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.accelerator.settings import Settings
from rsd_jax.evaluation.benchmark import unlimited
from rsd_jax.evaluation.device_rates import copy_bandwidth
from rsd_jax.evaluation.floors import decode_floor, kept_fraction
from rsd_jax.evaluation.measured_rows import bytes_ratio, header
from rsd_jax.evaluation.timing import TimedMethod, endless_request
from rsd_jax.models.loading import random_model


@dataclasses.dataclass(frozen=True)
class DraftCost:
    """The draft passes of a block.

    Attributes:
      passes: L.
      r: cost of one in target passes, by parameters.
      r_bytes: the same by bytes read, the live cache included.
    """

    passes: int
    r: float
    r_bytes: float


class Bench:
    """Models, made on first use, and what is timed with them."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._kept: dict[tuple[int, int], TimedMethod] = {}

    @functools.cached_property
    def target(self) -> LoadedModel:
        """The target, without a limit on positions."""
        settings = self.settings
        return unlimited(random_model(settings.shape, dtype=settings.dtype, seed=0))

    @functools.cached_property
    def draft(self) -> LoadedModel:
        """The draft, without a limit on positions."""
        settings = self.settings
        return unlimited(random_model(settings.draft_shape, dtype=settings.dtype, seed=1))

    @functools.cached_property
    def bandwidth(self) -> float:
        """Bytes per second of a copy."""
        return copy_bandwidth(self.settings.megabytes)

    @property
    def sampling(self) -> Sampling:
        """How the methods decode; the number of new tokens is set by `timed`."""
        return Sampling(max_new_tokens=1, temperature=self.settings.temperature)

    def prompts(self, batch: int, context: int) -> list[list[int]]:
        """Random prompts of equal length."""
        rng = np.random.default_rng(0)
        vocabulary = self.target.model.vocab_size
        prompts: list[list[int]] = rng.integers(0, vocabulary, (batch, context)).tolist()
        return prompts

    def timed(
        self,
        method: Method,
        batch: int,
        context: int,
        *,
        phases: bool = True,
        backend: Backend | None = None,
    ) -> TimedMethod:
        """A method in the middle of decoding.

        Args:
          method: from `build_method`.
          batch: rows.
          context: tokens of each prompt.
          phases: see `TimedMethod`.
          backend: choices in place of those for this device.
        """
        models = [self.target, self.draft if method.drafter.needs_draft_model else None]
        if backend is not None:
            models = [each and with_backend(each, backend) for each in models]
        target, draft = models
        assert target is not None
        blocks = self.settings.blocks
        # As many as the blocks before the timed state, and those timed, can make.
        most = 2 * blocks * (method.drafter.shape.depth + 1) + 1
        request = endless_request(self.prompts(batch, context), self.sampling, most)
        return TimedMethod(prepare(method, target, draft, request), blocks, phases=phases)

    def baseline(self, batch: int, context: int) -> TimedMethod:
        """Autoregressive decoding; that of the last batch and context is kept."""
        if (batch, context) not in self._kept:
            self.release()
            self._kept[batch, context] = self.timed(build_method("ar"), batch, context)
        return self._kept[batch, context]

    def release(self) -> None:
        """Frees the kept baseline."""
        self._kept.clear()
        gc.collect()

    def draft_cost(self, method: Method, batch: int, context: int) -> DraftCost:
        """What the draft passes of a block cost."""
        target, passes = self.target.model, method.drafter.shape.depth
        if method.drafter.needs_skips:
            attentions, mlps = start_set(target.num_layers).sum(axis=0).tolist()
            skipped = (attentions, mlps)
            read = kept_fraction(target, skipped, batch=batch, context=context)
            return DraftCost(passes, kept_fraction(target, skipped), read)
        if not passes:
            return DraftCost(0, 0.0, 0.0)
        ratio = bytes_ratio(self.target, self.draft)
        assert ratio is not None  # both have sizes
        large, small = (
            decode_floor(each, batch=batch, context=context, bandwidth=self.bandwidth).bytes
            for each in (target, self.draft.model)
        )
        return DraftCost(passes, ratio.r, small / large)

    def header(
        self, kind: str, method: Method | None = None, /, *, batch: int, context: int, **others: Any
    ) -> dict[str, Any]:
        """The fields of a row that are known before anything is measured; makes no model.

        Args:
          kind: of the row.
          method: of the row; None if `others` name one.
          batch: rows.
          context: tokens of each prompt.
          others: further fields.
        """
        settings = self.settings
        shared: dict[str, Any] = {
            "kind": kind,
            "pair": f"random {settings.shape}",
            "task": "random",
            "dtype": settings.dtype,
            "batch_size": batch,
            "context_length": context,
        }
        fields = header(None, method, sampling=self.sampling, **shared | others)
        return fields | {"max_new_tokens": None}  # decoding is timed, not finished


def with_backend(loaded: LoadedModel, backend: Backend) -> LoadedModel:
    """The same model with other choices of what depends on the device."""
    network: Any = loaded.model
    return dataclasses.replace(loaded, model=dataclasses.replace(network, backend=backend))
