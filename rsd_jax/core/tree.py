"""The draft tree: its static shape, its tokens, and who sees whom.

Slots are laid out level by level; slot 0 is the root, the last committed token. Parents come
before children and siblings stand in the order in which they were drawn.
"""

import dataclasses
import enum
import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rsd_jax.core.sampling import exclude
from rsd_jax.core.types import NO_NODE
from rsd_jax.errors import ConfigError, is_integer


class SiblingLaw(enum.Enum):
    """How the children of a node are drawn; a verifier declares which of these it accepts."""

    NONE = "none"  # nothing is drawn: the tree is only a root
    POINT = "point"  # each child is proposed with certainty
    SINGLE = "single"  # one child per node: the tree is a chain
    IID = "iid"  # each from the node's law
    WITHOUT_REPLACEMENT = "without_replacement"  # likewise, all earlier siblings excluded
    MIXED = "mixed"  # one child i.i.d., another without replacement or as a point mass

    @property
    def code(self) -> int:
        """The entry of `DraftTree.child_laws` for a child drawn by this law."""
        return _OF_ONE_CHILD.index(self)

    @classmethod
    def carried(cls, descriptions: "frozenset[SiblingLaw]") -> "SiblingLaw":
        """`DraftTree.siblings` of a drafter, from every description that fits its draws.

        Where several fit, the law that costs a verifier least. A single draw per node is i.i.d.
        """
        cheapest_first = (cls.IID, cls.WITHOUT_REPLACEMENT, cls.MIXED, cls.POINT)
        return next((law for law in cheapest_first if law in descriptions), cls.IID)


_OF_ONE_CHILD = (SiblingLaw.IID, SiblingLaw.WITHOUT_REPLACEMENT, SiblingLaw.POINT)


MOST_NODES = 1 << 16
"""Of a tree; far more than any target scores at once."""


@dataclasses.dataclass(frozen=True)
class TreeShape:
    """Widths of the levels of a tree, and whose children they are; static and hashable.

    Attributes:
      widths: slots per level, the root's level first (always 1).
      child_counts: children of every node, level by level, without the last level; or None when
        the data decide who is whose child. With counts, the children of a level's nodes fill the
        next level in the order of the nodes.

    Raises:
      ConfigError: the tree has more than `MOST_NODES` nodes.
    """

    widths: tuple[int, ...]
    child_counts: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self):
        if self.num_nodes > MOST_NODES:
            raise ConfigError(
                f"a tree of {self.depth} levels whose last has {self.widths[-1]} nodes is too "
                f"large; trees have at most {MOST_NODES} nodes"
            )

    @classmethod
    def from_branching(cls, branching: tuple[int, ...]) -> "TreeShape":
        """The shape of a tree whose nodes of level l have `branching[l]` children each."""
        if any(not isinstance(b, int) or b < 1 for b in branching):
            raise ConfigError(f"branching={branching} must hold integers of at least 1")
        widths = (1, *itertools.accumulate(branching, operator.mul))
        cls(widths)  # refuses a tree that is too large before its nodes are listed
        counts = zip(branching, widths, strict=False)
        return cls(widths, tuple((int(count),) * width for count, width in counts))

    @classmethod
    def backbone(cls, width: int, length: int) -> "TreeShape":
        """The shape of a tree where only the first node of a level has children: `width` each."""
        widths = (1,) + (width,) * length
        cls(widths)
        others = (0,) * (width - 1)
        return cls(widths, ((width,), *((width, *others),) * (length - 1))[:length])

    @classmethod
    def from_parents(cls, parents: Sequence[int]) -> "TreeShape":
        """The shape of any tree, from the parent of every node.

        Args:
          parents: -1 first, for the root; then, for each node, the place of its parent in this
            list, which is before its own place. Siblings are drawn in the order of the list.

        Raises:
          ConfigError: the list is no such tree; the message names the entry.
        """
        levels = _levels(parents)
        children: dict[int, list[int]] = {}
        for place, parent in enumerate(parents):
            children.setdefault(int(parent), []).append(place)
        counts: list[tuple[int, ...]] = []
        here = [0]
        while len(counts) < len(levels) - 1:
            below = [children.get(node, []) for node in here]
            counts.append(tuple(map(len, below)))
            here = list(itertools.chain.from_iterable(below))
        return cls(levels, tuple(counts))

    @property
    def depth(self) -> int:
        """D, the number of levels below the root."""
        return len(self.widths) - 1

    @property
    def num_nodes(self) -> int:
        """N, slots including the root."""
        return sum(self.widths)

    @property
    def num_internal(self) -> int:
        """I, slots of all levels but the last; they are the first I slots."""
        return self.num_nodes - self.widths[-1] if self.depth else 1

    @property
    def max_siblings(self) -> int:
        """Most children a node can have; at least 1, so that histograms have a column."""
        if self.child_counts is None:
            return max(self.widths[1:])
        return max(map(max, self.child_counts), default=1)

    @functools.cached_property
    def branching(self) -> tuple[int, ...] | None:
        """Children per node of each level but the last; None if nodes of a level differ."""
        if self.child_counts is None or any(len(set(level)) > 1 for level in self.child_counts):
            return None
        return tuple(level[0] for level in self.child_counts)

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """First slot of each level."""
        return tuple(int(s) for s in np.cumsum((0, *self.widths[:-1])))

    def level(self, level: int) -> slice:
        """Slots of one level."""
        return slice(self.starts[level], self.starts[level] + self.widths[level])

    @functools.cached_property
    def depths(self) -> np.ndarray:
        """i32[N], depth of each slot."""
        return np.repeat(np.arange(len(self.widths), dtype=np.int32), self.widths)

    @functools.cached_property
    def parent_slots(self) -> np.ndarray:
        """i32[P], the slots that can have children, ascending; the root's also without a level."""
        if self.child_counts:
            return np.flatnonzero(np.concatenate(self.child_counts)).astype(np.int32)
        return np.arange(self.num_internal, dtype=np.int32)

    @functools.cached_property
    def parent_index(self) -> np.ndarray:
        """i32[N], the place of each slot in `parent_slots`; their number for all other slots."""
        places = np.full(self.num_nodes, len(self.parent_slots), np.int32)
        places[self.parent_slots] = np.arange(len(self.parent_slots))
        return places

    @functools.cached_property
    def static_parents(self) -> np.ndarray | None:
        """i32[N], parent of each slot (`NO_NODE` for the root); None if the data decide."""
        if self.child_counts is None:
            return None
        counts = np.concatenate([np.zeros(0, np.int32), *self.child_counts]).astype(np.int32)
        above = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        return np.concatenate([np.asarray([NO_NODE], np.int32), above])

    @property
    def words(self) -> str:
        """The tree in words, as in the papers' tables: "4" for a chain, "6x5", "2-2-1".

        "-" without drafted nodes. Where nodes of a level have different numbers of children, these
        stand with a dot between them, as in "3-2.1.0-1.0.0".
        """
        if self.depth == 0:
            return "-"
        if max(self.widths) == 1:
            return str(self.depth)
        if self.child_counts is None:
            return f"{self.widths[1]}x{self.depth}"
        return counts_in_words(self.child_counts)


def _levels(parents: Sequence[int]) -> tuple[int, ...]:
    """Nodes per level of a list of parents, see `TreeShape.from_parents`."""
    is_list = isinstance(parents, (Sequence, np.ndarray)) and not isinstance(parents, str)
    if not is_list or len(parents) < 2 or len(parents) > MOST_NODES:
        raise ConfigError(
            f"parents={parents!r:.80} must be a list of 2 to {MOST_NODES} nodes, -1 first for the "
            "root, then the place of each node's parent, e.g. (-1, 0, 0, 1)"
        )
    depths: list[int] = []
    for place, parent in enumerate(parents):
        problem = ""
        if not is_integer(parent):
            problem = "must be an integer"
        elif place == 0 and parent != NO_NODE:
            problem = f"must be {NO_NODE}: the first node is the root"
        elif place and parent == NO_NODE:
            problem = "is a second root; only the first node has no parent"
        elif place and not 0 <= parent < place:
            problem = f"is not before its own place; it must be between 0 and {place - 1}"
        if problem:
            raise ConfigError(f"parents[{place}]={parent!r:.80} {problem}")
        depths.append(depths[int(parent)] + 1 if place else 0)
    return tuple(np.bincount(depths).tolist())


def counts_in_words(child_counts: tuple[tuple[int, ...], ...]) -> str:
    """Children of every node, level by level: "2-2-1" where all nodes of a level have as many."""
    return "-".join(
        str(level[0]) if len(set(level)) == 1 else ".".join(map(str, level))
        for level in child_counts
    )


class DraftLaws(Protocol):
    """The draft's law at every internal node, after its warp, as it was sampled from."""

    def at(self, node: jax.Array) -> jax.Array:
        """log q at one node: i32[] to f32[V]; for one row (vmap over the batch)."""
        ...


@struct.dataclass
class DenseLaws:
    """Laws held in full: logprobs f32[B, I, V]."""

    logprobs: jax.Array

    def at(self, node: jax.Array) -> jax.Array:
        return self.logprobs[node]


@struct.dataclass
class BackboneLaws:
    """One law per level, that of its first node: logprobs f32[B, D, V]; no other has children."""

    logprobs: jax.Array
    shape: TreeShape = struct.field(pytree_node=False)

    def at(self, node: jax.Array) -> jax.Array:
        level = jnp.minimum(jnp.asarray(self.shape.depths)[node], self.shape.depth - 1)
        return self.logprobs[level]


@struct.dataclass
class PointLaws:
    """Point masses: node i proposes `proposals[i]` with certainty; i32[B, I]."""

    proposals: jax.Array
    vocab_size: int = struct.field(pytree_node=False)

    def at(self, node: jax.Array) -> jax.Array:
        ids = jnp.arange(self.vocab_size, dtype=jnp.int32)
        return jnp.where(ids == self.proposals[node], 0.0, -jnp.inf)


@struct.dataclass
class DraftTree:
    """A drafted tree with the laws it was drawn from.

    Invariants (checked by `rsd_jax.testing.validate_tree`): slot 0 is the root and valid;
    parents precede children; siblings stand in draw order; a child of an invalid node is
    invalid; invalid nodes are never accepted.

    Attributes:
      tokens: i32[B, N].
      parents: i32[B, N], slot of each node's parent, `NO_NODE` for the root.
      valid: bool[B, N].
      scores: f32[B, N], what the drafter ranked siblings by; descending among siblings.
      laws: the draft's laws at internal nodes.
      finite: bool[B], whether every law that was sampled from is a law.
      shape: static.
      siblings: static; which law every child was drawn from: `IID`, `WITHOUT_REPLACEMENT` or
        `POINT`. `MIXED` if that differs from child to child.
      child_laws: i8[B, N], `SiblingLaw.code` of each child's law if `siblings` is `MIXED`.
    """

    tokens: jax.Array
    parents: jax.Array
    valid: jax.Array
    scores: jax.Array
    laws: DraftLaws
    finite: jax.Array
    shape: TreeShape = struct.field(pytree_node=False)
    siblings: SiblingLaw = struct.field(pytree_node=False)
    child_laws: jax.Array | None = None

    def draft_logprobs_at(self, node: jax.Array) -> jax.Array:
        """log q at one node of one row: i32[] to f32[V]."""
        return self.laws.at(node)

    def law_of(self, child: jax.Array) -> jax.Array:
        """log q that one child of one row was drawn from: i32[] to f32[V].

        Not a law for a child without a parent that can have children.
        """
        own = self.draft_logprobs_at(jnp.clip(self.parents[child], 0, self.shape.num_internal - 1))
        if self.siblings is SiblingLaw.IID:
            return own
        if self.siblings is SiblingLaw.WITHOUT_REPLACEMENT:
            return self._without_earlier_siblings(child, own)
        is_token = jnp.arange(own.shape[-1], dtype=jnp.int32) == self.tokens[child]
        point = jnp.where(is_token, jnp.zeros_like(own), -jnp.inf)
        if self.siblings is SiblingLaw.POINT:
            return point
        assert self.child_laws is not None
        law, distinct = self.child_laws[child], self._without_earlier_siblings(child, own)
        sampled = jnp.where(law == SiblingLaw.IID.code, own, distinct)
        return jnp.where(law == SiblingLaw.POINT.code, point, sampled)

    def _without_earlier_siblings(self, child: jax.Array, law: jax.Array) -> jax.Array:
        """The law log q, f32[V], of a parent without the tokens of a child's earlier siblings."""
        if self.shape.max_siblings == 1:
            return law
        earlier = self.earlier_siblings(child)
        rest = exclude(law, jnp.where(earlier, self.tokens, law.shape[-1]))
        return jnp.where(earlier.any(), rest, law)  # the same bits as the law that was drawn from

    def earlier_siblings(self, child: jax.Array) -> jax.Array:
        """bool[N]: the valid siblings of one row that were drawn before a child, i32[]."""
        return (self.parents == self.parents[child]) & self.valid & (self._slots < child)

    def children(self) -> jax.Array:
        """bool[N, N] of one row: entry (i, j) says whether j is a valid child of i."""
        return (self.parents[None] == self._slots[:, None]) & self.valid[None]

    def earlier(self) -> jax.Array:
        """bool[N, N] of one row: entry (i, j) says whether j is an earlier valid sibling of i."""
        return jax.vmap(self.earlier_siblings)(self._slots)

    @property
    def _slots(self) -> jax.Array:
        return jnp.arange(self.shape.num_nodes, dtype=jnp.int32)


@struct.dataclass
class LawsFrom:
    """Laws at the nodes of another tree: node i has the law of that tree's node `slots[i]`.

    Attributes:
      tree: the other tree.
      slots: i32[B, I]; 0 for nodes that nothing was drawn from.
    """

    tree: DraftTree
    slots: jax.Array

    def at(self, node: jax.Array) -> jax.Array:
        return self.tree.draft_logprobs_at(self.slots[node])


def level_visibility(
    shape: TreeShape, level: int, above: jax.Array | np.ndarray, parents: jax.Array | np.ndarray
) -> jax.Array | np.ndarray:
    """What the nodes of one level see: their ancestors and themselves.

    Args:
      shape: of the tree.
      level: at least 1.
      above: bool[B or 1, w, N], visibility of the level above.
      parents: i32[B or 1, w'], parent of each node, as an index into the level above.

    Returns:
      bool[B or 1, w', N]; a numpy array if both inputs are.
    """
    itself = np.eye(shape.num_nodes, dtype=bool)[None, shape.level(level)]
    if isinstance(parents, np.ndarray) and isinstance(above, np.ndarray):
        return np.take_along_axis(above, parents[..., None], axis=1) | itself
    return jnp.take_along_axis(jnp.asarray(above), parents[..., None], axis=1) | itself


def root_visibility(shape: TreeShape) -> np.ndarray:
    """bool[1, 1, N]: the root sees itself."""
    return np.eye(shape.num_nodes, dtype=bool)[None, :1]


def ancestor_mask(shape: TreeShape, parents: jax.Array) -> jax.Array | np.ndarray:
    """bool[B or 1, N, N]: entry (i, j) says whether j is i or an ancestor of i.

    Args:
      shape: of the tree; with static branching the mask is a constant and `parents` is unused.
      parents: i32[B, N].
    """
    known = shape.static_parents
    rows: list[jax.Array | np.ndarray] = [root_visibility(shape)]
    for level in range(1, shape.depth + 1):
        source = parents if known is None else known[None]
        local = source[:, shape.level(level)] - shape.starts[level - 1]
        above = rows[-1]
        if not isinstance(local, np.ndarray):
            above = jnp.broadcast_to(above, (local.shape[0], *above.shape[1:]))
        rows.append(level_visibility(shape, level, above, local))
    if all(isinstance(row, np.ndarray) for row in rows):
        return np.concatenate(rows, axis=1)
    batch = parents.shape[0]
    return jnp.concatenate([jnp.broadcast_to(row, (batch, *row.shape[1:])) for row in rows], axis=1)
