"""Grows a tree level by level, with one draft pass per level for any width."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rsd_jax.core.sampling import Purpose, gumbels, is_law
from rsd_jax.core.sharding import gather_logits
from rsd_jax.core.tree import (
    DenseLaws,
    DraftTree,
    SiblingLaw,
    TreeShape,
    level_visibility,
    root_visibility,
)
from rsd_jax.core.types import NO_NODE
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.base import Drafter
from rsd_jax.drafters.tree_law import Levels, Table, trees_of_a_shape

ScoreLevel = Callable[[int, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
"""(level, tokens i32[B, w], visible bool[B or 1, w, N], carry) to (logits f32[B, w, V], carry).

Called once for each level above the leaves, from the root down. For rules with `pass_widths` a
level without nodes is skipped, so below the root the carry keeps its shapes."""


@struct.dataclass
class Children:
    """One new level, in slot order.

    Attributes:
      tokens: i32[B, w'].
      parents: i32[B or 1, w'], as indices into the level above; numpy if static.
      valid: bool[B, w'].
      scores: f32[B, w'], descending among siblings.
      laws: i8[B, w'], `SiblingLaw.code` of each child, from rules whose siblings are `MIXED`.
    """

    tokens: jax.Array
    parents: Any
    valid: jax.Array
    scores: jax.Array
    laws: jax.Array | None = None


class TreeRule(abc.ABC):
    """Decides which children a level gets, given the draft's laws there. Frozen and hashable.

    Class attributes, which make a method for users from each rule in `TREE_RULES`:
      method: name of the method, "" for no method; the method's options are the rule's fields.
      verifier: default verifier of the method, a name in `rsd_jax.verifiers.VERIFIERS`.
    """

    method: ClassVar[str] = ""
    verifier: ClassVar[str] = "recursive_rejection"

    @property
    @abc.abstractmethod
    def shape(self) -> TreeShape:
        """Static shape of the trees."""

    @property
    def words(self) -> str:
        """The tree in words, see `Drafter.words`."""
        return self.shape.words

    @property
    def pass_widths(self) -> tuple[int, ...] | None:
        """See `Drafter.pass_widths`; for rules that leave slots empty."""
        return None

    def drawn_levels(self, draft: Table) -> Iterator[tuple[float, Levels]]:
        """Every tree that the rule can draw from a table, with its probability.

        For the testing kit. A rule has to override this function if its shape is not static or
        if its nodes do not draw their children independently of each other.
        """
        siblings = SiblingLaw.carried(self.sibling_laws)
        return trees_of_a_shape(self.shape, siblings, draft)

    @property
    @abc.abstractmethod
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        """See `Drafter.sibling_laws`."""

    def law_of_rank(self, rank: int) -> SiblingLaw:
        """The law of a node's child with a rank among its siblings, the first with rank 0.

        A rule overrides this function if its siblings are `MIXED` and their laws depend on the rank
        alone; the testing kit reads it.
        """
        return SiblingLaw.carried(self.sibling_laws)

    @abc.abstractmethod
    def noise_rows(self, level: int) -> int:
        """Number of rows of V Gumbels that `expand` uses at a level."""

    @abc.abstractmethod
    def start(self, batch: int) -> Any:
        """The carry of the rule at the root; `expand` passes a carry from level to level."""

    @abc.abstractmethod
    def expand(
        self, level: int, carry: Any, logprobs: jax.Array, noise: jax.Array | None
    ) -> tuple[Children, Any]:
        """Draws the level below `level`.

        Args:
          level: 0 for the root.
          carry: carry of the level.
          logprobs: f32[B, w, V], the draft's laws at the nodes of `level`.
          noise: standard Gumbel f32[B, noise_rows(level), V], or None if greedy.
        """


@dataclasses.dataclass(frozen=True)
class RuleDrafter(Drafter):
    """A drafter whose trees a rule grows; subclasses score the levels.

    Attributes:
      rule: which children a node gets.
    """

    rule: TreeRule

    @property
    def shape(self) -> TreeShape:
        return self.rule.shape

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        return self.rule.sibling_laws

    @property
    def words(self) -> str:
        return self.rule.words

    @property
    def pass_widths(self) -> tuple[int, ...] | None:
        return self.rule.pass_widths

    @property
    def draft_passes(self) -> int | None:
        return None if self.rule.pass_widths else super().draft_passes

    def passes_of(self, depth: jax.Array) -> jax.Array:
        # The pass over the last level that has nodes finds that the next one has none.
        return jnp.minimum(depth + 1, self.shape.depth) if self.rule.pass_widths else depth


def _noise_of_levels(
    rule: TreeRule, keys: jax.Array, vocab_size: int, dtype: jnp.dtype
) -> list[jax.Array]:
    """All Gumbels of a block, by level; drawn in one call, as random draws are slow to compile."""
    rows = [rule.noise_rows(level) for level in range(rule.shape.depth)]
    noise = gumbels(keys, Purpose.DRAFT, (sum(rows), vocab_size)).astype(dtype)
    ends = [sum(rows[: i + 1]) for i in range(len(rows))]
    return [noise[:, end - n : end] for end, n in zip(ends, rows, strict=True)]


def _score_if(
    needed: jax.Array,
    score: Callable[[Any], tuple[jax.Array, Any]],
    carry: Any,
    law: jax.Array,
    width: int,
) -> tuple[jax.Array, Any]:
    """Scores a level, or skips the pass: all logits are 0 then, and nothing reads them.

    Args:
      needed: bool[], whether the level has a node.
      score: maps the carry to logits and the next carry, which has the same shapes.
      carry: see `grow_tree`.
      law: f32[B, 1, V] of the root, whose dtype and vocabulary all levels have.
      width: slots of the level.
    """
    none = jnp.zeros((law.shape[0], width, law.shape[-1]), law.dtype)
    return jax.lax.cond(needed, score, lambda same: (none, same), carry)


def grow_tree(
    rule: TreeRule,
    score_level: ScoreLevel,
    carry: Any,
    root: jax.Array,
    *,
    active: jax.Array | None = None,
    warp: Warp,
    keys: jax.Array,
) -> tuple[DraftTree, Any]:
    """Grows a tree from the root down.

    Args:
      rule: which children a node gets.
      score_level: the draft's logits for a level.
      carry: state of `score_level`, threaded through.
      root: i32[B], last committed tokens.
      active: bool[B], all by default; the trees of other rows need not be whole.
      warp: of the draft.
      keys: key[B].

    Returns:
      the tree and the last carry.
    """
    shape, batch = rule.shape, root.shape[0]
    active = jnp.ones((batch,), bool) if active is None else active
    tokens, valid = [root[:, None]], [jnp.ones((batch, 1), bool)]
    parents = [jnp.full((batch, 1), NO_NODE, jnp.int32)]
    scores = [jnp.zeros((batch, 1), jnp.float32)]
    child_laws = [jnp.zeros((batch, 1), jnp.int8)]  # the root's entry is never read
    laws: list[jax.Array] = []
    rule_carry = rule.start(batch)
    visible: jax.Array | np.ndarray = root_visibility(shape)
    noise: list[jax.Array] = []
    for level in range(shape.depth):
        with jax.named_scope(f"draft_level_{level}"):
            score = functools.partial(score_level, level, tokens[-1], jnp.asarray(visible))
            if level and rule.pass_widths:
                needed = (valid[-1] & active[:, None]).any()
                logits, carry = _score_if(needed, score, carry, laws[0], shape.widths[level])
            else:
                logits, carry = score(carry)
            logits = gather_logits(logits)
            logprobs = warp(logits)
            if not noise and not warp.greedy:
                noise = _noise_of_levels(rule, keys, logits.shape[-1], logits.dtype)
            level_noise = None if warp.greedy else noise[level]
            children, rule_carry = rule.expand(level, rule_carry, logprobs, level_noise)
        local = children.parents
        if isinstance(local, jax.Array):
            visible = jnp.broadcast_to(visible, (batch, *visible.shape[1:]))
        visible = level_visibility(shape, level + 1, visible, local)
        laws.append(logprobs)
        tokens.append(children.tokens)
        valid.append(children.valid)
        scores.append(children.scores.astype(jnp.float32))
        if children.laws is not None:
            child_laws.append(children.laws)
        slots = jnp.asarray(local, jnp.int32) + shape.starts[level]
        parents.append(jnp.broadcast_to(slots, children.tokens.shape))
    logprobs = jnp.concatenate(laws, axis=1)
    all_valid = jnp.concatenate(valid, axis=1)
    sampled = is_law(logprobs) | ~all_valid[:, : shape.num_internal]
    siblings = SiblingLaw.carried(rule.sibling_laws)
    is_mixed = siblings is SiblingLaw.MIXED
    tree = DraftTree(
        tokens=jnp.concatenate(tokens, axis=1),
        parents=jnp.concatenate(parents, axis=1),
        valid=all_valid,
        scores=jnp.concatenate(scores, axis=1),
        laws=DenseLaws(logprobs=logprobs),
        finite=sampled.all(axis=1),
        shape=shape,
        siblings=siblings,
        child_laws=jnp.concatenate(child_laws, axis=1) if is_mixed else None,
    )
    return tree, carry
