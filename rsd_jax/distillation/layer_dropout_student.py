"""A student that learns, by a low-rank adapter, to act as its target with sub-layers skipped."""

import dataclasses
import itertools
from typing import Self

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.skips import num_switches
from rsd_jax.core.types import Params
from rsd_jax.errors import ConfigError, is_integer, positive_integer
from rsd_jax.models.families import family_of
from rsd_jax.models.family import ModelConfig, Network

_GROUPS = 2  # groups of rows with skipped sub-layers, each group with its own skip set


def check_rows(rows: int) -> None:
    """Raises `ConfigError` for too few rows for a whole row and a row per group."""
    if rows < 1 + _GROUPS:
        raise ConfigError(
            f"recipe: batch_size / accumulate is {rows} and must be at least {1 + _GROUPS}"
        )


@dataclasses.dataclass(frozen=True)
class LayerDropoutStudent:
    """A target with an adapter; every call of `score` skips other sub-layers.

    Parameters are {"target": ..., "adapter": {... "a" f32[in, r], "b" f32[r, out]}}; the target's
    parameters have no gradient.

    Attributes:
      network: the target.
      rank: r, the rank of the adapter.
      fewest, most: bounds of the number of skipped sub-layers, which is uniform between them.
    """

    network: Network
    rank: int = 1
    fewest: int = 1
    most: int = 1

    def __post_init__(self):
        positive_integer("skipping.rank", self.rank)
        size = num_switches(self.network.num_layers)
        given = (self.fewest, self.most)
        if not (all(map(is_integer, given)) and 1 <= self.fewest <= self.most <= size):
            raise ConfigError(
                f"skipping.fewest={self.fewest!r} and skipping.most={self.most!r} must be integers "
                f"from 1 to {size}, the sub-layers between the target's first and last layer"
            )

    @property
    def config(self) -> ModelConfig:
        return self.network.config

    @property
    def vocab_size(self) -> int:
        return self.network.vocab_size

    def with_remat(self, remat: bool) -> Self:
        return dataclasses.replace(self, network=self.network.with_remat(remat))

    def init_params(self, key: jax.Array) -> Params:
        return self.start(self.network.init_params(key), key)

    def start(self, target: Params, key: jax.Array) -> Params:
        """A target's parameters and an adapter that adds nothing: A is normal, B is 0."""
        factors = {}
        flat = flax.traverse_util.flatten_dict(target)
        for index, spec in enumerate(family_of(self.config).tensors(self.config).values()):
            if spec.path[-1] == "kernel":
                inputs, outputs = flat[spec.path].shape
                own = jax.random.fold_in(key, index)
                a = jax.random.normal(own, (inputs, self.rank)) / np.sqrt(inputs)
                factors[*spec.path[:-1], "a"] = a
                factors[*spec.path[:-1], "b"] = jnp.zeros((self.rank, outputs))
        return {"target": target, "adapter": flax.traverse_util.unflatten_dict(factors)}

    def adapted(self, params: Params) -> Params:
        """The target's parameters with the adapter's products added."""
        flat = flax.traverse_util.flatten_dict(jax.lax.stop_gradient(params["target"]))
        factors = flax.traverse_util.flatten_dict(params["adapter"])
        for path in flat:
            if (*path[:-1], "a") in factors:
                flat[path] += factors[*path[:-1], "a"] @ factors[*path[:-1], "b"]
        return flax.traverse_util.unflatten_dict(flat)

    def score(self, params: Params, tokens: jax.Array, skips: jax.Array | None = None) -> jax.Array:
        """Logits of whole sequences; a quarter of the rows skips nothing.

        The skip sets follow from the tokens, so that a training step is a function of its batch.

        Args:
          params: parameters of the student.
          tokens: i32[B, Q], one sequence per row.
          skips: bool[layers, 2], for all rows; None to draw the sets.
        """
        if skips is not None:
            return self.network.score(self.adapted(params), tokens, skips)
        rows, whole = tokens.shape[0], max(1, tokens.shape[0] // 4)
        check_rows(rows)
        params, key = self.adapted(params), jax.random.key(tokens.sum())
        ends = np.linspace(whole, rows, _GROUPS + 1).astype(int)
        logits = [self.network.score(params, tokens[:whole])]
        for group, (start, end) in enumerate(itertools.pairwise(ends)):
            skips = self._draw(jax.random.fold_in(key, group))
            logits.append(self.network.score(params, tokens[start:end], skips))
        return jnp.concatenate(logits)

    def _draw(self, key: jax.Array) -> jax.Array:
        """bool[layers, 2]: `fewest` to `most` sub-layers, none of the first and last layer."""
        sizes, order = jax.random.split(key)
        count = jax.random.randint(sizes, (), self.fewest, self.most + 1)
        switches = jax.random.permutation(order, num_switches(self.network.num_layers)) < count
        return jnp.pad(switches.reshape(-1, 2), ((1, 1), (0, 0)))
