"""Verifiers that take the drawn nodes one after the other and subtract what each was drawn from.

Every node u that can have children keeps a measure R_u over the next token, at first a multiple of
p(·|u). A drawn child with token x, drawn from q, changes R_u to a multiple of (R_u - q)+, and its
ratio min(1, R_u(x) / q(x)) says how much the child is wanted. What these two numbers do to the
measures is all in which the verifiers differ.

No measure is written out. Because (max(z, 0) - q)+ = (z - q)+ for q >= 0, the measure of u after
any number of children is

    R_u(y) = (a_u p(y|u) - b_u Q_u(y))+

for all tokens y that no child of u has: there the laws of all children are multiples of one Q_u.
At the tokens of the children R_u is held as one number per child. So a child costs one sum over
the vocabulary, and the state of the loop is a few numbers per node.
"""

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree, SiblingLaw
from rsd_jax.verifiers.base import Stops, TargetLaws
from rsd_jax.verifiers.stops import StopVerifier, law_of_stop

NEGLIGIBLE = 1e-20
"""Masses up to this one are rounding, and are taken for 0: their inverse might overflow."""


class DrawnLaws(NamedTuple):
    """The laws of one row as its drawn nodes see them; P as in `TreeShape.parent_slots`.

    Attributes:
      parents: i32[N], with 0 for the root.
      places: i32[N], where the parent of each node is among the P.
      drawn: bool[N], valid nodes but the root.
      is_first: bool[N], drawn nodes that have no earlier sibling with the same token.
      lawful: bool[N], whether the target's law at each node is one.
      p: f32[P, V], the target's laws, 0 at the tokens of drawn children.
      q: f32[P, V], Q; None if all children are point masses.
      p_of_token: f32[N], p(x_k|u) of each drawn node k with parent u.
      bulk: f32[N], q_k = bulk[k] Q at all tokens that no child of the parent has.
      q_of_tokens: f32[N, N], entry (k, j) is q_k(x_j) for drawn siblings k and j, else 0.
    """

    parents: jax.Array
    places: jax.Array
    drawn: jax.Array
    is_first: jax.Array
    lawful: jax.Array
    p: jax.Array
    q: jax.Array | None
    p_of_token: jax.Array
    bulk: jax.Array
    q_of_tokens: jax.Array


def drawn_laws(tree: DraftTree, target: TargetLaws) -> DrawnLaws:
    """The laws at the nodes of one row, side by side."""
    shape, slots = tree.shape, jnp.arange(tree.shape.num_nodes, dtype=jnp.int32)
    parents, drawn = jnp.maximum(tree.parents, 0), tree.valid & (slots > 0)
    places = jnp.asarray(shape.parent_index, jnp.int32)[parents]
    siblings = (parents[:, None] == parents[None]) & drawn[:, None] & drawn[None]
    same_token = siblings & (tree.tokens[:, None] == tree.tokens[None])
    first = jnp.where(same_token, slots[None], shape.num_nodes).min(axis=1)

    lawful, p = target.probabilities(shape)
    of_drawn = jnp.where(drawn, places, len(shape.parent_slots)), tree.tokens
    q, bulk, q_of_tokens = _drafts(tree, siblings, same_token, first, places, of_drawn)
    return DrawnLaws(
        parents=parents,
        places=places,
        drawn=drawn,
        is_first=drawn & (first == slots),
        lawful=lawful,
        p=p.at[of_drawn].set(0.0, mode="drop"),
        q=q,
        p_of_token=jnp.where(drawn, p[places, tree.tokens], 0.0),
        bulk=jnp.where(drawn, bulk, 0.0),
        q_of_tokens=jnp.where(siblings, q_of_tokens, 0.0),
    )


def _drafts(
    tree: DraftTree,
    siblings: jax.Array,
    same_token: jax.Array,
    first: jax.Array,
    places: jax.Array,
    of_drawn: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array | None, jax.Array, jax.Array]:
    """`q`, `bulk` and `q_of_tokens` of `DrawnLaws`; junk between nodes that are no siblings."""
    as_points = same_token.astype(jnp.result_type(tree.draft_logprobs_at(jnp.asarray(0))))
    if tree.siblings is SiblingLaw.POINT:
        return None, jnp.zeros_like(as_points[0]), as_points
    log_q = jax.vmap(tree.draft_logprobs_at)(jnp.asarray(tree.shape.parent_slots))
    of_tokens = log_q[places, tree.tokens]
    left = log_q.at[of_drawn].set(-jnp.inf, mode="drop")
    # Q is scaled to a maximum of 1: where the children have nearly all mass, what is left may be
    # less than float32 holds, and a child drawn from it has a law all the same.
    top = left.max(-1)
    q = jnp.exp(left - jnp.where(jnp.isfinite(top), top, 0.0)[:, None])
    top = top[places]
    own = jnp.exp(top), jnp.broadcast_to(jnp.exp(of_tokens)[None], as_points.shape)
    if tree.siblings is SiblingLaw.IID:
        return q, *own

    # A child's law is normalised over the tokens that no earlier sibling has: by a softmax, whose
    # digits do not depend on how little mass these tokens had at first.
    slots = jnp.arange(len(places), dtype=jnp.int32)
    is_left = first[None] >= slots[:, None]
    counted = siblings & is_left & (first == slots)[None]
    of_left = jnp.where(counted, of_tokens[None], -jnp.inf)
    has_earlier = tree.earlier().any(axis=1)
    largest = jnp.maximum(of_left.max(axis=1), top)
    shift = jnp.where(has_earlier & jnp.isfinite(largest), largest, 0.0)
    mass = jnp.exp(of_left - shift[:, None]).sum(1) + q.sum(-1)[places] * jnp.exp(top - shift)
    mass = jnp.where(has_earlier & (mass > 0.0), mass, 1.0)
    bulk = jnp.exp(top - shift) / mass
    distinct = jnp.exp(of_tokens[None] - shift[:, None]) / mass[:, None]
    distinct = jnp.where(is_left, distinct, 0.0)
    if tree.siblings is SiblingLaw.WITHOUT_REPLACEMENT:
        return q, bulk, distinct
    assert tree.child_laws is not None
    is_point, is_iid = (tree.child_laws == law.code for law in (SiblingLaw.POINT, SiblingLaw.IID))
    bulk = jnp.where(is_point, 0.0, jnp.where(is_iid, own[0], bulk))
    sampled = jnp.where(is_iid[:, None], own[1], distinct)
    return q, bulk, jnp.where(is_point[:, None], as_points, sampled)


class Drawn(NamedTuple):
    """A drawn node when its turn comes.

    Attributes:
      child, parent: i32[], slots.
      ratio: f32[], min(1, R(x) / q(x)) for the child's token x and the parent's measure R.
      rest: f32[], the mass of (R - q)+.
    """

    child: jax.Array
    parent: jax.Array
    ratio: jax.Array
    rest: jax.Array


class Taken(NamedTuple):
    """What a drawn node does.

    Attributes:
      weight: f32[N], see `MeasureVerifier.take`.
      factor: f32[N], or f32[] for all nodes, what the measures are multiplied by; the parent's
        measure being (R - q)+.
      scale: f32[], the child's measure is this multiple of p.
      by_rounding: bool[], whether the child was taken only because rounding left no mass elsewhere.
    """

    weight: jax.Array
    factor: jax.Array
    scale: jax.Array
    by_rounding: jax.Array


class _State(NamedTuple):
    weight: jax.Array  # f32[N], the verifier's own
    first_weight: jax.Array  # f32[N], when the node was taken
    a: jax.Array  # f32[N], see the module
    b: jax.Array  # f32[N]
    of_token: jax.Array  # f32[N], R_u(x_k) of each drawn node k with parent u
    by_rounding: jax.Array  # i32[]


class MeasureVerifier(StopVerifier):
    """Takes the drawn nodes in slot order: level by level, as they were drawn.

    Subclasses write `take` and `masses`.
    """

    @abc.abstractmethod
    def take(self, weight: jax.Array, drawn: Drawn) -> Taken:
        """What a drawn node does to the measures.

        Args:
          weight: f32[N], a number per node that is the verifier's own: at first 1 at the root, and
            0 elsewhere.
          drawn: the node.
        """

    @abc.abstractmethod
    def masses(self, tree: DraftTree, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Where the block stops, from the weights after the last drawn node.

        Returns:
          f32[N], the probability that the block stops at each node; and f32[N], 0 at nodes that the
          block cannot reach whatever weight they had when they were taken.
        """

    def stops(self, tree: DraftTree, target: TargetLaws) -> Stops:
        laws = drawn_laws(tree, target)
        state = self._take_all(laws)
        mass, reachable = self.masses(tree, state.weight)
        finite = (laws.lawful | (state.first_weight * reachable == 0.0)).all()

        def law(node: jax.Array) -> jax.Array:
            is_child = laws.drawn & (laws.parents == node)
            tokens = jnp.where(is_child, tree.tokens, laws.p.shape[-1])

            def measure(place: jax.Array) -> jax.Array:
                bulk = _bulk(laws, place, state.a[node], state.b[node])
                return bulk.at[tokens].set(state.of_token, mode="drop")

            return law_of_stop(tree, target, node, measure)

        # Without a law all mass is missing, which is not for rounding.
        return Stops(mass, law, finite, jnp.where(finite, state.by_rounding, 0))

    def _take_all(self, laws: DrawnLaws) -> _State:
        slots = jnp.arange(len(laws.drawn), dtype=jnp.int32)
        # Slots that were not drawn come last, and the loop ends before them.
        order = jnp.argsort(~laws.drawn, stable=True).astype(jnp.int32)

        def step(turn: jax.Array, state: _State) -> _State:
            child = order[turn]
            parent = laws.parents[child]
            b = state.b.at[parent].add(laws.bulk[child])
            is_sibling = laws.drawn & (laws.parents == parent)
            rest = jnp.maximum(state.of_token - laws.q_of_tokens[child], 0.0)
            of_token = jnp.where(is_sibling, rest, state.of_token)
            mass = _bulk(laws, laws.places[child], state.a[parent], b[parent]).sum()
            mass += jnp.where(is_sibling & laws.is_first, rest, 0.0).sum()
            mass = jnp.where(mass > NEGLIGIBLE, mass, 0.0)
            ratio = _ratio(state.of_token[child], laws.q_of_tokens[child, child])
            taken = self.take(state.weight, Drawn(child, parent, ratio, mass))
            factor = jnp.broadcast_to(taken.factor, slots.shape)
            is_own = laws.drawn & (laws.parents == child)
            return _State(
                weight=taken.weight,
                first_weight=state.first_weight.at[child].set(taken.weight[child]),
                a=(state.a * factor).at[child].set(taken.scale),
                b=b * factor,
                of_token=jnp.where(
                    is_own, taken.scale * laws.p_of_token, of_token * factor[laws.parents]
                ),
                by_rounding=state.by_rounding + taken.by_rounding.astype(jnp.int32),
            )

        root = (slots == 0).astype(laws.p.dtype)
        of_root = jnp.where(laws.parents == 0, laws.p_of_token, 0.0)
        start = _State(root, root, root, jnp.zeros_like(root), of_root, jnp.zeros((), jnp.int32))
        return jax.lax.fori_loop(0, laws.drawn.sum(dtype=jnp.int32), step, start)


def _bulk(laws: DrawnLaws, place: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """f32[V]: (a p - b Q)+ at one parent; 0 at the tokens of its children."""
    if laws.q is None:
        return a * laws.p[place]
    return jnp.maximum(a * laws.p[place] - b * laws.q[place], 0.0)


def _ratio(wanted: jax.Array, q: jax.Array) -> jax.Array:
    """min(1, wanted / q), and 0 for a token that q cannot draw."""
    return jnp.where(q > 0, jnp.minimum(1, wanted / jnp.where(q > 0, q, 1)), jnp.zeros_like(q))
