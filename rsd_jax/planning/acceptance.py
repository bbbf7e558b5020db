"""How often the child of each rank is accepted, from a run with a wide tree."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.tree import DraftTree, TreeShape, ancestor_mask
from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import build_method, lossless_verifiers
from rsd_jax.engine.phases import DecodeOptions
from rsd_jax.engine.request import Request, RequestOptions
from rsd_jax.evaluation.observed import observed_run
from rsd_jax.planning.programme import BestTrees
from rsd_jax.verifiers.base import TargetLaws, Verifier
from rsd_jax.verifiers.expected import stop_masses

_RATES = (0.6, 0.12, 0.07, 0.05, 0.03, 0.02, 0.015, 0.01)
"""Near those of the pair that ships, at T = 1."""


@functools.cache
def wide_tree() -> tuple[int, ...]:
    """A tree of 63 nodes below the root, as parents: the best one for some usual acceptances."""
    return BestTrees(np.tile(_RATES, (8, 1)), 64).parents(64)


@dataclasses.dataclass(frozen=True, eq=False)
class RankAcceptance:
    """What was expected of the children of accepted nodes, summed over the blocks of a run.

    Attributes:
      accepted: f64[D, K], probabilities that the child of rank k below a node at depth d is
        accepted.
      tested: f64[D, K], probabilities that its parent is, over the nodes that have such a child.
    """

    accepted: np.ndarray
    tested: np.ndarray

    @property
    def rates(self) -> np.ndarray:
        """f64[K], how often the child of a rank is accepted where its parent is."""
        return _ratio(self.accepted.sum(axis=0), self.tested.sum(axis=0))

    @property
    def rates_by_depth(self) -> np.ndarray:
        """f64[D, K], the same by the depth of the parent; 0 where no node had such a child."""
        return _ratio(self.accepted, self.tested)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    found = np.divide(above, below, out=np.zeros_like(above), where=below > 0.0)
    # At most one child is accepted, but nodes of several widths are counted, and float32 rounds.
    return found / np.maximum(1.0, found.sum(axis=-1, keepdims=True))


@dataclasses.dataclass(frozen=True)
class _ByRank:
    """The `Measure` of one verifier: `accepted` and `tested`, f32[B, 2, D, K]."""

    verifier: Verifier
    tree: TreeShape

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, self.tree.depth, self.tree.max_siblings)

    def __call__(self, tree: DraftTree, target: TargetLaws, options: DecodeOptions) -> jax.Array:
        shape = tree.shape
        parents = shape.static_parents
        assert parents is not None
        mass = stop_masses(self.verifier, tree, target)
        # A block that stops at a node has accepted the node's ancestors.
        accepted = mass @ jnp.asarray(ancestor_mask(shape, tree.parents)[0], mass.dtype)
        children, above = np.arange(1, shape.num_nodes), parents[1:]
        cells = shape.depths[above] * shape.max_siblings + children - _first_child(parents)[above]
        of_child = jnp.stack([accepted[:, children], accepted[:, above]], axis=1)
        sums = jnp.zeros((*of_child.shape[:2], shape.depth * shape.max_siblings), mass.dtype)
        return sums.at[:, :, cells].add(of_child).reshape(-1, *self.shape)


def _first_child(parents: np.ndarray) -> np.ndarray:
    """i[N], the slot of each node's first child; junk for a node without children."""
    return np.searchsorted(parents, np.arange(len(parents)))


def rank_acceptance(
    target: LoadedModel,
    draft: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    parents: Sequence[int] | None = None,
    **options: Unpack[RequestOptions],
) -> dict[str, RankAcceptance]:
    """Decodes prompts with a wide static tree, and computes what each verifier would accept.

    Recursive rejection decides, so it chooses the contexts. Acceptance is not counted but computed,
    so a few hundred blocks are enough.

    Args:
      target, draft: the pair.
      prompts: token ids.
      parents: the tree, `wide_tree()` if None; ranks and depths that it does not have stay unknown.
      options: of `generate`: `max_new_tokens`, `temperature`, `batch_size` and others. The rates
        hold for this temperature, and for no other.

    Returns:
      by name of the verifier, for all that are lossless for the tree.

    Raises:
      ConfigError: as `generate`.
      NonFiniteLogitsError: as `generate`.
    """
    method = build_method("static", parents=wide_tree() if parents is None else parents)
    verifiers = lossless_verifiers(method)
    job = prepare(method, target, draft, Request.of(prompts, **options))
    measures = tuple(_ByRank(each, method.drafter.shape) for each in verifiers.values())
    sums = [each.sum(axis=0) for each in observed_run(job, measures).sums]
    return {name: RankAcceptance(*each) for name, each in zip(verifiers, sums, strict=True)}
