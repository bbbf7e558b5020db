"""Stochastic beams with a wrong perturbed value G.

The output law does not change: recursive rejection is lossless for any score that is monotone in
the Gumbels within a node. But the law of the trees is wrong: the kept prefixes of a level are not
an ordered sample without replacement.
"""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp

from rsd_jax.drafters import stochastic_beam
from rsd_jax.drafters.growth import Children


def _untruncated(g: jax.Array, largest: jax.Array, bound: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(g) & jnp.isfinite(bound), g, -jnp.inf)


def _without_largest(g: jax.Array, largest: jax.Array, bound: jax.Array) -> jax.Array:
    value = -jnp.logaddexp(-bound, -g)
    return jnp.where(jnp.isfinite(g) & jnp.isfinite(bound), value, -jnp.inf)


BEAM_FAULTS = {
    "untruncated g": "children are ranked by g itself",
    "phi dropped": "g is log q(child) + Gumbel, without the log probability of the prefix",
    "G of the root": "children are truncated at the root's G, not their parent's",
    "exp(-Z) missing": "G~ = -log(exp(-G) + exp(-g)), without the maximum of the siblings",
}
"""Name and description of each fault."""


@dataclasses.dataclass(frozen=True)
class FaultyBeam(stochastic_beam.StochasticBeam):
    """A stochastic beam with one of `BEAM_FAULTS`."""

    fault: str = ""

    def expand(
        self,
        level: int,
        carry: tuple[jax.Array, jax.Array],
        logprobs: jax.Array,
        noise: jax.Array | None,
    ) -> tuple[Children, tuple[jax.Array, jax.Array]]:
        phi, bound = carry
        if self.fault == "phi dropped":
            phi = jnp.where(jnp.isfinite(phi), 0.0, phi)
        if self.fault == "G of the root":
            bound = jnp.where(jnp.isfinite(bound), 0.0, bound)
        wrong = {"untruncated g": _untruncated, "exp(-Z) missing": _without_largest}
        truncated = wrong.get(self.fault, stochastic_beam.truncated_gumbel)
        with mock.patch.object(stochastic_beam, "truncated_gumbel", truncated):
            return super().expand(level, (phi, bound), logprobs, noise)
