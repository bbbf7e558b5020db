"""RSD-S: a stochastic beam of width W (Jeon et al. 2024, 3.2.2; Kool et al. 2019)."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp

from rsd_jax.core.sampling import gumbel_top_k, truncated_gumbel
from rsd_jax.core.tree import MOST_NODES, SiblingLaw, TreeShape
from rsd_jax.drafters.growth import Children, TreeRule
from rsd_jax.drafters.tree_law import Levels, Prefix, Table, prefix_row
from rsd_jax.errors import positive_integer

_Beam = tuple[jax.Array, jax.Array]  # phi f32[B, w], G f32[B, w]


@dataclasses.dataclass(frozen=True)
class StochasticBeam(TreeRule):
    """Each level keeps the W prefixes with the largest perturbed log probability.

    The kept prefixes of a level, by descending G, are an ordered sample without replacement
    from the draft's law over prefixes. A node without kept children stays in the tree as a leaf.

    Attributes:
      width: W.
      length: L.
    """

    method: ClassVar[str] = "rsd_s"

    width: int
    length: int

    def __post_init__(self):
        for name in ("width", "length"):
            value = positive_integer(name, getattr(self, name), most=MOST_NODES)
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> TreeShape:
        return TreeShape((1,) + (self.width,) * self.length)

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        if self.width == 1:
            return frozenset({SiblingLaw.SINGLE, SiblingLaw.IID, SiblingLaw.WITHOUT_REPLACEMENT})
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})

    def noise_rows(self, level: int) -> int:
        return self.shape.widths[level]

    def start(self, batch: int) -> _Beam:
        """phi, the log probability of the prefix, and G, the perturbed phi."""
        return jnp.zeros((batch, 1), jnp.float32), jnp.zeros((batch, 1), jnp.float32)

    def expand(
        self, level: int, carry: _Beam, logprobs: jax.Array, noise: jax.Array | None
    ) -> tuple[Children, _Beam]:
        phi, bound = (x.astype(logprobs.dtype)[..., None] for x in carry)
        batch, _, vocab = logprobs.shape
        # Within a node G is monotone in g, so only the node's W largest g can be kept.
        contenders = min(self.width, vocab)
        g, tokens = gumbel_top_k(phi + logprobs, noise, contenders)
        child_phi = phi + jnp.take_along_axis(logprobs, tokens, axis=-1)
        if noise is None:
            scores = jnp.where(jnp.isfinite(bound), child_phi, -jnp.inf)
        else:
            scores = truncated_gumbel(g, g[..., :1], bound)
        # Contenders of a node are sorted by descending g and top_k is stable: ties in G go to
        # the larger g, and siblings are in draw order.
        kept, index = jax.lax.top_k(scores.reshape(batch, -1), self.width)

        def keep(x: jax.Array) -> jax.Array:
            return jnp.take_along_axis(x.reshape(batch, -1), index, axis=1)

        valid = jnp.isfinite(kept)
        children = Children(
            tokens=keep(tokens),
            parents=(index // contenders).astype(jnp.int32),
            valid=valid,
            scores=kept,
        )
        return children, (jnp.where(valid, keep(child_phi), -jnp.inf), kept)

    def drawn_levels(self, draft: Table) -> Iterator[tuple[float, Levels]]:
        """A stochastic beam as an exponential race between all sequences (Kool et al. 2019, 3).

        The beam of level l is the first W prefixes of length l that finish in a race with rates
        Q(sequence). Races are memoryless: once the deepest beam is full, the next new prefix of the
        level above is drawn in proportion to its probability, independently of the race so far.
        """
        vocab, width = draft[0].shape[-1], self.width
        mass: dict[Prefix, float] = {(): 1.0}
        for level in range(self.length):
            for prefix in itertools.product(range(vocab), repeat=level):
                for x in range(vocab):
                    mass[(*prefix, x)] = mass[prefix] * draft[level][prefix_row(prefix, vocab), x]

        def race(
            probability: float, level: int, seen: tuple[tuple[Prefix, ...], ...]
        ) -> Iterator[tuple[float, Levels]]:
            if level == 0:
                padded = [(*nodes, *[None] * (width - len(nodes))) for nodes in seen[1:]]
                yield probability, (((),), *padded)
                return
            left = [
                p
                for p in itertools.product(range(vocab), repeat=level)
                if p not in seen[level] and mass[p] > 0.0
            ]
            if len(seen[level]) == width or not left:
                yield from race(probability, level - 1, seen)
                return
            total = sum(mass[p] for p in left)
            for prefix in left:
                after = tuple(
                    (*nodes, prefix[:d])
                    if 0 < d <= level and prefix[:d] not in nodes and len(nodes) < width
                    else nodes
                    for d, nodes in enumerate(seen)
                )
                yield from race(probability * mass[prefix] / total, level, after)

        return race(1.0, self.length, ((),) * (self.length + 1))
