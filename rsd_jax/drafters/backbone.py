"""SWIFT's candidate tree: a chain whose length and siblings follow the draft's confidence.

Xia et al. 2025, section 4: the draft goes on while it is confident. With less confidence the token
of the chain gets more siblings.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.sampling import Purpose, gumbel_top_k, gumbels, is_law
from rsd_jax.core.sharding import gather_logits
from rsd_jax.core.tree import MOST_NODES, BackboneLaws, DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.warp import Warp
from rsd_jax.errors import ConfigError, is_integer, is_number, positive_integer

ScoreStep = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
"""(step i32[], tokens i32[B], carry) to (logits f32[B, V], carry): the draft's logits after the
chain's token of this step, which is the root at step 0. Called in a loop."""


@struct.dataclass
class Level:
    """The nodes that a step of the draft adds below the chain's last node.

    Attributes:
      tokens: i32[B, K], the chain's next token first, then its siblings.
      valid: bool[B, K].
      scores: f32[B, K], descending.
      logprobs: f32[B, V], the law that the tokens were drawn from.
      confident: bool[B], whether the draft goes on.
    """

    tokens: jax.Array
    valid: jax.Array
    scores: jax.Array
    logprobs: jax.Array
    confident: jax.Array


@dataclasses.dataclass(frozen=True)
class BackboneRule:
    """The length of the chain and the number of nodes at each depth.

    The confidence of a step is the probability of the chain's next token under the draft at
    temperature 1. The number of nodes depends only on the first draw, which is always kept. Thus
    drafting is predictable, and recursive rejection without replacement is lossless.

    Attributes:
      length: L, the largest number of steps.
      stop_below: the draft stops after a step whose confidence is not above this value; the nodes
        of this step are still verified.
      confidences: lower bounds of the classes, descending; a step is of the first class whose
        bound the confidence exceeds, else of the last class, which has no bound.
      counts: nodes of a step by class, the chain's token included; fewer if the support is smaller.
      greedy_counts: the same at T = 0.
    """

    length: int
    stop_below: float = 0.8
    confidences: tuple[float, ...] = (0.95, 0.8, 0.5)
    counts: tuple[int, ...] = (1, 3, 5, 10)
    greedy_counts: tuple[int, ...] = (3, 5, 8, 10)

    def __post_init__(self):
        positive_integer("length", self.length, most=MOST_NODES)
        bounds = (self.stop_below, *self.confidences)
        if not all(is_number(bound) and 0.0 <= bound <= 1.0 for bound in bounds):
            raise ConfigError(
                f"stop_below={self.stop_below!r} and confidences={self.confidences!r} must be "
                "probabilities"
            )
        if list(self.confidences) != sorted(self.confidences, reverse=True):
            raise ConfigError(f"confidences={self.confidences!r} must descend")
        for name in ("counts", "greedy_counts"):
            counts = getattr(self, name)
            if len(counts) != len(self.confidences) + 1 or not all(
                is_integer(count) and count >= 1 for count in counts
            ):
                raise ConfigError(
                    f"{name}={counts!r} must hold integers of at least 1, one per class: "
                    f"{len(self.confidences) + 1} for confidences={self.confidences!r}"
                )

    @property
    def max_count(self) -> int:
        """K, the largest number of nodes of a step."""
        return max(*self.counts, *self.greedy_counts)

    @property
    def shape(self) -> TreeShape:
        return TreeShape.backbone(self.max_count, self.length)

    @property
    def max_nodes(self) -> int:
        """Most nodes of a tree: the root, L - 1 confident steps and the last step."""
        # The confidence of all steps but the last is above `stop_below`: only these classes.
        classes = [
            i
            for i, _ in enumerate(self.counts)
            if i == 0 or self.confidences[i - 1] > self.stop_below
        ]
        confident = max(max(self.counts[i], self.greedy_counts[i]) for i in classes)
        return 1 + (self.length - 1) * confident + self.max_count

    def expand(self, logits: jax.Array, warp: Warp, noise: jax.Array | None) -> Level:
        """Draws the nodes of one step.

        Args:
          logits: f32[B, V], the draft's logits.
          warp: of the draft.
          noise: standard Gumbel f32[B, V], or None if greedy.
        """
        width, vocab = self.max_count, logits.shape[-1]
        logprobs = warp(logits)
        drawn = min(width, vocab)
        scores, tokens = gumbel_top_k(logprobs, noise, drawn)
        unwarped = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, :1], axis=-1)
        confidence = jnp.exp(unwarped[:, 0])
        bounds = jnp.asarray(self.confidences, confidence.dtype)
        # A NaN is thus in the last class and stops the draft.
        above = confidence[:, None] > bounds[None]
        index = len(self.confidences) - above.sum(axis=1, dtype=jnp.int32)
        count = jnp.asarray(self.greedy_counts if warp.greedy else self.counts, jnp.int32)[index]
        order = jnp.arange(drawn, dtype=jnp.int32)
        valid = (order[None] < count[:, None]) & jnp.isfinite(scores)
        none = ((0, 0), (0, width - drawn))
        return Level(
            tokens=jnp.pad(tokens, none),
            valid=jnp.pad(valid, none),
            scores=jnp.pad(scores.astype(jnp.float32), none, constant_values=-jnp.inf),
            logprobs=logprobs,
            confident=(confidence > self.stop_below) & valid[:, 0],
        )


@struct.dataclass
class _Growth:
    """The tree so far; the axis after B is the step."""

    step: jax.Array  # i32[]
    going: jax.Array  # bool[B], rows whose draft goes on
    token: jax.Array  # i32[B], the chain's last token
    tokens: jax.Array  # i32[B, L, K]
    valid: jax.Array  # bool[B, L, K]
    scores: jax.Array  # f32[B, L, K]
    logprobs: jax.Array  # f32[B, L, V]
    finite: jax.Array  # bool[B]
    carry: Any


def grow_backbone(
    rule: BackboneRule,
    score_step: ScoreStep,
    carry: Any,
    root: jax.Array,
    active: jax.Array,
    *,
    warp: Warp,
    keys: jax.Array,
    score_root: ScoreStep | None = None,
) -> tuple[DraftTree, Any]:
    """Grows a candidate tree; the loop ends when every row has stopped.

    Args:
      rule: when to stop, and how many siblings.
      score_step: the draft's logits along the chain.
      carry: state of `score_step`, threaded through.
      root: i32[B], last committed tokens.
      active: bool[B]; the trees of other rows are only a root.
      warp: of the draft.
      keys: key[B].
      score_root: in place of `score_step` at step 0, for drafts whose first pass is another one.

    Returns:
      the tree and the last carry.
    """
    shape, (batch,) = rule.shape, root.shape
    step = jnp.asarray(0, jnp.int32)
    logits = jax.eval_shape(score_step, step, root, carry)[0]
    vocab, nodes = logits.shape[-1], (batch, rule.length, rule.max_count)
    empty = _Growth(
        step=step,
        going=active,
        token=root,
        tokens=jnp.zeros(nodes, jnp.int32),
        valid=jnp.zeros(nodes, bool),
        scores=jnp.full(nodes, -jnp.inf, jnp.float32),
        logprobs=jnp.zeros((batch, rule.length, vocab), logits.dtype),
        finite=jnp.ones((batch,), bool),
        carry=carry,
    )

    def unfinished(growth: _Growth) -> jax.Array:
        return (growth.step < rule.length) & growth.going.any()

    def extend(growth: _Growth, score: ScoreStep = score_step) -> _Growth:
        logits, carry = score(growth.step, growth.token, growth.carry)
        noise = None
        if not warp.greedy:
            first = growth.step * vocab
            noise = gumbels(keys, Purpose.DRAFT, (vocab,), first).astype(logits.dtype)
        level, going = rule.expand(gather_logits(logits), warp, noise), growth.going

        def put(levels: jax.Array, new: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_index_in_dim(levels, new, growth.step, axis=1)

        return _Growth(
            step=growth.step + 1,
            going=going & level.confident,
            token=jnp.where(going, level.tokens[:, 0], growth.token),
            tokens=put(growth.tokens, level.tokens),
            valid=put(growth.valid, level.valid & going[:, None]),
            scores=put(growth.scores, level.scores),
            logprobs=put(growth.logprobs, level.logprobs),
            finite=growth.finite & (is_law(level.logprobs) | ~going),
            carry=carry,
        )

    with jax.named_scope("draft_steps"):
        first = empty if score_root is None else extend(empty, score_root)
        end = jax.lax.while_loop(unfinished, extend, first)
    return _tree(shape, root, end), end.carry


def _tree(shape: TreeShape, root: jax.Array, end: _Growth) -> DraftTree:
    """The tree of a finished growth."""
    (batch,) = root.shape

    def slots(of_root: jax.Array, of_steps: jax.Array) -> jax.Array:
        return jnp.concatenate([of_root[:, None], of_steps.reshape(batch, -1)], axis=1)

    parents = jnp.asarray(shape.static_parents)[None]
    return DraftTree(
        tokens=slots(root, end.tokens),
        parents=jnp.broadcast_to(parents, (batch, shape.num_nodes)),
        valid=slots(jnp.ones((batch,), bool), end.valid),
        scores=slots(jnp.zeros((batch,), jnp.float32), end.scores),
        laws=BackboneLaws(logprobs=end.logprobs, shape=shape),
        finite=end.finite,
        shape=shape,
        siblings=SiblingLaw.WITHOUT_REPLACEMENT,
    )
