"""Random pairs of a target and a draft, so small that all their laws are tables."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.tree import DraftTree, TreeShape
from rsd_jax.drafters.growth import ScoreLevel
from rsd_jax.drafters.tree_law import Table


@dataclasses.dataclass(frozen=True, eq=False)
class Instance:
    """A target and a draft as tables.

    Attributes:
      target: p, for prefixes of 0 to D tokens.
      draft: q, for prefixes of 0 to D - 1 tokens.
    """

    target: Table
    draft: Table

    def __post_init__(self):
        for table in (self.target, self.draft):
            for depth, laws in enumerate(table):
                assert laws.shape == (self.vocab_size**depth, self.vocab_size), laws.shape
                np.testing.assert_allclose(laws.sum(-1), 1.0, atol=1e-12)
        assert len(self.target) == len(self.draft) + 1

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.target[0].shape[-1]

    @property
    def depth(self) -> int:
        """D, the largest depth of a tree on these tables."""
        return len(self.draft)


def sequence_law(table: Table) -> np.ndarray:
    """The autoregressive law of a table over whole sequences, f64[V**len(table)]."""
    joint = np.ones(1)
    for laws in table:
        joint = (joint[:, None] * laws).reshape(-1)
    return joint


KINDS = ("dense", "peaked", "zeros in q", "zeros in p", "zeros in both", "disjoint", "equal")
"""Kinds of `random_instances`. In "disjoint", target and draft have no common token after half of
the prefixes; in "equal", target and draft have the same law after half of the prefixes."""


def random_instances(vocab_size: int, depth: int, count: int, *, seed: int = 0) -> list[Instance]:
    """Random instances; cycles through `KINDS`.

    Args:
      vocab_size: V, at least 2.
      depth: D.
      count: number of instances.
      seed: seed of the generator.
    """
    rng = np.random.default_rng(seed)
    return [_instance(rng, vocab_size, depth, KINDS[i % len(KINDS)]) for i in range(count)]


def _instance(rng: np.random.Generator, vocab: int, depth: int, kind: str) -> Instance:
    target, draft = [], []
    for level in range(depth + 1):
        concentration = np.full(vocab, 0.3 if kind == "peaked" else 1.0)
        p, q = rng.dirichlet(concentration, (2, vocab**level))
        keep_p, keep_q = (_some_zeros(rng, p.shape) for _ in range(2))
        chosen = (rng.random(len(p)) < 0.5)[:, None]
        if kind in ("zeros in p", "zeros in both"):
            p = _normalised(p * keep_p)
        if kind in ("zeros in q", "zeros in both"):
            q = _normalised(q * keep_q)
        if kind == "disjoint":
            split = np.argsort(rng.random(p.shape)) < rng.integers(1, vocab)
            p, q = _normalised(p * (split | ~chosen)), _normalised(q * (~split | ~chosen))
        if kind == "equal":
            q = np.where(chosen, p, q)
        target.append(p)
        draft.append(q)
    return Instance(target=tuple(target), draft=tuple(draft[:-1]))


def _some_zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Mask that drops about a third of the entries, but never all entries of a row."""
    keep = rng.random(shape) > 1 / 3
    keep[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = True
    return keep


def _normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(-1, keepdims=True)


def log(laws: np.ndarray) -> np.ndarray:
    """Logarithm; log 0 is -inf, without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(laws)


def prefix_indices(
    shape: TreeShape, tokens: np.ndarray, parents: np.ndarray, vocab_size: int
) -> np.ndarray:
    """int[..., N]: the row of each node's prefix in the table of its depth.

    Args:
      shape: of the trees.
      tokens: i32[..., N].
      parents: i32[..., N].
      vocab_size: V.
    """
    index = np.zeros(tokens.shape, np.int64)
    for level in range(1, shape.depth + 1):
        here = shape.level(level)
        above = np.take_along_axis(index, np.maximum(parents[..., here], 0), axis=-1)
        index[..., here] = above * vocab_size + tokens[..., here]
    return index


def laws_at(table: Table, shape: TreeShape, index: np.ndarray) -> np.ndarray:
    """f64[..., N', V]: a table's laws at the N' slots of the first len(table) levels.

    Args:
      table: one entry per level.
      shape: of the trees.
      index: int[..., N] from `prefix_indices`.
    """
    levels = [laws[index[..., shape.level(level)]] for level, laws in enumerate(table)]
    return np.concatenate(levels, axis=-2)


def log_tables(table: Table) -> tuple[jax.Array, ...]:
    """The table's log probabilities in float32, on device."""
    return tuple(jnp.asarray(log(laws), jnp.float32) for laws in table)


def table_score_level(shape: TreeShape, draft: tuple[jax.Array, ...]) -> ScoreLevel:
    """A `ScoreLevel` for `grow_tree` that reads a table through the visibility mask.

    A node's prefix is read through the node's mask, so a wrong mask gives wrong laws. The carry is
    the tokens of the levels so far, i32[B, N]; initially i32[B, 0].

    Args:
      shape: of the trees.
      draft: from `log_tables`.
    """
    depths, vocab = shape.depths, draft[0].shape[-1]

    def score_level(level: int, tokens: jax.Array, visible: jax.Array, so_far: jax.Array):
        if level == 0:
            so_far = jnp.zeros((len(tokens), shape.num_nodes), jnp.int32)
        here = shape.level(level)
        so_far = so_far.at[:, here].set(tokens)
        known = depths[: here.stop]
        powers = np.where(known > 0, vocab ** np.maximum(level - known, 0), 0)
        place = jnp.asarray(powers, jnp.int32)[None, None]
        seen = jnp.where(visible[:, :, : len(known)], place * so_far[:, None, : len(known)], 0)
        index = seen.sum(-1, dtype=jnp.int32)
        return draft[level][index], so_far

    return score_level


def target_logits(target: tuple[jax.Array, ...], tree: DraftTree) -> jax.Array:
    """f32[B, N, V]: the target's log probabilities at every node; target from `log_tables`."""
    shape, vocab = tree.shape, target[0].shape[-1]
    index = jnp.zeros_like(tree.tokens[:, :1])
    out = [target[0][index]]
    for level in range(1, shape.depth + 1):
        here = shape.level(level)
        local = tree.parents[:, here] - shape.starts[level - 1]
        index = jnp.take_along_axis(index, local, axis=1) * vocab + tree.tokens[:, here]
        out.append(target[level][index])
    return jnp.concatenate(out, axis=1)
