"""Verifiers with faults that real implementations have had; listed in `law_mutants`."""

import dataclasses
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import Purpose, residual, uniforms
from rsd_jax.core.tree import DraftTree, SiblingLaw
from rsd_jax.core.types import NO_NODE, VerifyResult
from rsd_jax.verifiers import base, k_seq
from rsd_jax.verifiers.base import Decision, Stops, TargetLaws, Verifier
from rsd_jax.verifiers.coupling import Coupling
from rsd_jax.verifiers.recursive_rejection import RecursiveRejection
from rsd_jax.verifiers.stops import StopVerifier
from rsd_jax.verifiers.walk import Verdict


@dataclasses.dataclass(frozen=True)
class FaultyRejection(RecursiveRejection):
    """Recursive rejection written out sibling by sibling, with one wrong line.

    Attributes:
      fault: the wrong line; without a fault this is a second, independent implementation.
    """

    all_nodes: bool | None = False  # the faults are in the tests of one node
    fault: str = ""

    def test(
        self,
        tree: DraftTree,
        node: jax.Array,
        log_p: jax.Array,
        uniforms: jax.Array,
        *,
        unrolled: bool,
    ) -> Verdict:
        size, p = tree.shape.num_nodes, jnp.exp(log_p)
        slots = jnp.arange(size, dtype=jnp.int32)
        children = (tree.parents == node) & tree.valid
        in_order = jnp.argsort(jnp.where(children, slots, size))[: tree.shape.max_siblings]
        inner = jnp.minimum(node, tree.shape.num_internal - 1)
        log_q = first = tree.draft_logprobs_at(inner)
        q_1, r, unnormalised = jnp.exp(first), p, p
        accepted, rejected = jnp.asarray(NO_NODE, jnp.int32), jnp.asarray(0, jnp.int32)
        for slot in in_order:
            x, q = tree.tokens[slot], jnp.exp(log_q)
            tested = children[slot] & (accepted == NO_NODE)
            says = q_1 if self.fault == "unconditional q in the test" else q
            wants = {"p in every test": p, "unnormalised residual in the test": unnormalised}.get(
                self.fault, r
            )
            left, right = uniforms[slot] * says[x], wants[x]
            accept = left <= right if self.fault == "not strict" else left < right
            subtracted = q_1 if self.fault == "unconditional q in the residual" else q
            rest, mass = residual(r, subtracted)
            accept |= mass[0] == 0.0
            accepted = jnp.where(tested & accept, slot.astype(jnp.int32), accepted)
            tested_and_rejected = tested & ~accept
            rejected += tested_and_rejected.astype(jnp.int32)
            unnormalised = jnp.where(tested_and_rejected, rest * mass, unnormalised)
            r = jnp.where(tested_and_rejected, rest, r)
            log_q = jnp.where(tested, jax.nn.log_softmax(log_q.at[x].set(-jnp.inf)), log_q)
        rest, mass = residual(p, q_1)
        emits = {"all rejected, p emitted": p, "residual of raw p and q": rest}.get(self.fault, r)
        r = jnp.where((rejected > 0) & (mass[0] > 0.0), emits, r)
        return Verdict(accepted, rejected, r, empty=jnp.asarray(0, jnp.int32))


@dataclasses.dataclass(frozen=True)
class Misinformed(Verifier):
    """Takes all children as drawn from one law, whatever the tree says.

    Attributes:
      verifier: a correct verifier.
      siblings: the law.
    """

    verifier: Verifier
    siblings: SiblingLaw

    @property
    def accepts(self):
        return self.verifier.accepts

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        shown = dataclasses.replace(tree, siblings=self.siblings, child_laws=None)
        return self.verifier.decide(shown, target, uniforms)


@dataclasses.dataclass(frozen=True)
class PointsKept(RecursiveRejection):
    """Leaves a point mass in the law of the siblings that are drawn after it."""

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        right = DraftTree.earlier_siblings

        def sampled_earlier(tree: DraftTree, child: jax.Array) -> jax.Array:
            assert tree.child_laws is not None
            is_point = tree.child_laws == SiblingLaw.POINT.code
            return right(tree, child) & ~is_point

        with mock.patch.object(DraftTree, "earlier_siblings", sampled_earlier):
            return super().decide(tree, target, uniforms)


@dataclasses.dataclass(frozen=True)
class Rearranged(Verifier):
    """Gives a verifier the siblings of a tree of depth 1 in another order, or only some of them.

    Attributes:
      verifier: a correct verifier.
      order: maps (tokens i32[K], valid bool[K], q f64[V]) to sort keys [K]; the sort is stable.
      keep: maps the same arguments to bool[K], whether each sibling is kept.
    """

    verifier: Verifier
    order: Callable[..., jax.Array] | None = None
    keep: Callable[..., jax.Array] | None = None

    @property
    def accepts(self):
        return self.verifier.accepts

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        shown, target, slots = self._shown(tree, target)
        decision = self.verifier.decide(shown, target, uniforms[slots])
        path = jnp.where(decision.path == NO_NODE, NO_NODE, slots[decision.path])
        return dataclasses.replace(decision, path=path.astype(jnp.int32))

    def _shown(
        self, tree: DraftTree, target: TargetLaws
    ) -> tuple[DraftTree, TargetLaws, jax.Array]:
        """The rearranged tree, its laws, and where each of its slots was: i32[N]."""
        assert tree.shape.depth == 1
        x, valid = tree.tokens[1:], tree.valid[1:]
        law = jnp.exp(tree.draft_logprobs_at(jnp.asarray(0)))
        order = (
            jnp.arange(len(x))
            if self.order is None
            else jnp.argsort(jnp.where(valid, self.order(x, valid, law), jnp.inf))
        )
        if self.keep is not None:
            valid &= self.keep(x, valid, law)
        slots = jnp.concatenate([jnp.zeros((1,), order.dtype), order + 1])
        valid = jnp.concatenate([tree.valid[:1], valid])
        shown = dataclasses.replace(tree, tokens=tree.tokens[slots], valid=valid[slots])
        return shown, dataclasses.replace(target, places=slots), slots


@dataclasses.dataclass(frozen=True)
class RearrangedStops(Rearranged, StopVerifier):
    """The same for a verifier that knows the law of a block."""

    def stops(self, tree: DraftTree, target: TargetLaws) -> Stops:
        shown, target, slots = self._shown(tree, target)
        stops = self.verifier.stops(shown, target)
        shown_at = jnp.argsort(slots).astype(jnp.int32)
        return dataclasses.replace(
            stops, mass=stops.mass[shown_at], law=lambda node: stops.law(shown_at[node])
        )


def _copies(x: jax.Array, valid: jax.Array) -> jax.Array:
    """bool[K, K]: entry (i, j) says whether j is an earlier sibling with the token of i."""
    earlier = np.tri(len(x), k=-1, dtype=bool)
    return (x[:, None] == x[None]) & valid[:, None] & valid[None] & earlier


def is_new(x: jax.Array, valid: jax.Array, q: jax.Array) -> jax.Array:
    """Whether no earlier sibling has the same token."""
    return ~_copies(x, valid).any(1)


def first_copy(x: jax.Array, valid: jax.Array, q: jax.Array) -> jax.Array:
    """The first sibling with the same token."""
    own = jnp.eye(len(x), dtype=bool)
    return jnp.argmax(_copies(x, valid) | own, axis=1).astype(q.dtype)


def token_id(x: jax.Array, valid: jax.Array, q: jax.Array) -> jax.Array:
    """The token."""
    return x.astype(q.dtype)


def ascending_q(x: jax.Array, valid: jax.Array, q: jax.Array) -> jax.Array:
    """The probability of the token."""
    return q[x]


def likely(x: jax.Array, valid: jax.Array, q: jax.Array) -> jax.Array:
    """Whether the token's probability is at least 1/4."""
    return q[x] >= 0.25


@dataclasses.dataclass(frozen=True)
class UnwarpedBonus(Verifier):
    """Emits from the plain softmax of the target's logits where no child was tested."""

    verifier: Verifier

    @property
    def accepts(self):
        return self.verifier.accepts

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        decision = self.verifier.decide(tree, target, uniforms)
        last = decision.path[jnp.maximum(decision.num_accepted - 1, 0)]
        node = jnp.where(decision.num_accepted > 0, last, 0)
        is_bonus = ~((tree.parents == node) & tree.valid).any()
        unwarped = jax.nn.softmax(target.logits[node])
        return dataclasses.replace(decision, law=jnp.where(is_bonus, unwarped, decision.law))


@dataclasses.dataclass(frozen=True)
class FaultySelection(k_seq.KSeq):
    """K-SEQ with a function of its module replaced.

    Attributes:
      fault: "rho is 1" or "initial K".
    """

    fault: str = ""

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        initial = jnp.asarray(max(tree.shape.widths), target.logits.dtype)
        factor, rest = k_seq.division_factor, k_seq.k_seq_residual
        wrong: dict[str, Any] = {"division_factor": lambda p, q, k: jnp.ones_like(k)}
        if self.fault == "initial K":
            wrong = {
                "division_factor": lambda p, q, k: factor(p, q, initial),
                "k_seq_residual": lambda p, q, rho, k: rest(p, q, rho, initial),
            }
        with mock.patch.multiple(k_seq, **wrong):
            return super().decide(tree, target, uniforms)


@dataclasses.dataclass(frozen=True)
class SharedKey(RecursiveRejection):
    """Draws the uniforms of acceptance with the key that the draft was drawn with."""

    def verify(self, tree: DraftTree, target: TargetLaws, keys: jax.Array) -> VerifyResult:
        def same_key(keys: jax.Array, purpose: Purpose, size: int) -> jax.Array:
            return uniforms(keys, Purpose.DRAFT, size)

        with mock.patch.object(base, "uniforms", same_key):
            return super().verify(tree, target, keys)


@dataclasses.dataclass(frozen=True)
class LawOfTheChain(Verifier):
    """For candidate trees: after an accepted sibling the walk goes on to the chain's next node.

    This node does not follow the sibling. The walk rejects it and subtracts its law, which belongs
    to another node: the token is emitted from N[(p - q)+] instead of p.
    """

    verifier: Verifier

    @property
    def accepts(self):
        return self.verifier.accepts

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        decision = self.verifier.decide(tree, target, uniforms)
        depth = decision.num_accepted
        last = decision.path[jnp.maximum(depth - 1, 0)]
        starts = jnp.asarray(tree.shape.starts, jnp.int32)
        chain = starts[jnp.minimum(depth, tree.shape.depth - 1)]
        drafted_on = ((tree.parents == chain) & tree.valid).any()
        is_sibling = (depth > 0) & (last != starts[depth]) & (depth < tree.shape.depth)
        rest, mass = residual(decision.law, jnp.exp(tree.draft_logprobs_at(chain)))
        wrong = is_sibling & drafted_on & (mass[0] > 0.0)
        return dataclasses.replace(decision, law=jnp.where(wrong, rest, decision.law))


@dataclasses.dataclass(frozen=True)
class FaultyCoupling(Coupling):
    """Sequential coupling with every sub-law written out, with one line wrong.

    Attributes:
      fault: which line; with none this is a second, independent implementation.
    """

    fault: str = ""

    def stops(self, tree: DraftTree, target: TargetLaws) -> Stops:
        size, root = tree.shape.num_nodes, jnp.asarray(0, jnp.int32)
        slots = jnp.arange(size, dtype=jnp.int32)
        p = jnp.exp(jax.vmap(target.at)(slots))
        parts = jnp.where(slots[:, None] == root, p[0], jnp.zeros_like(p))
        unscaled = parts
        for k in self._order(tree):
            u, x = jnp.maximum(tree.parents[k], 0), tree.tokens[k]
            log_q = tree.law_of(k)
            if self.fault == "unconditional q":
                log_q = tree.draft_logprobs_at(jnp.minimum(u, tree.shape.num_internal - 1))
            q, drawn = jnp.exp(log_q), tree.valid[k]
            wanted = unscaled[u, x] if self.fault == "s from the unscaled sub-law" else parts[u, x]
            s = jnp.where(q[x] > 0, jnp.minimum(1, wanted / jnp.where(q[x] > 0, q[x], 1)), 0)
            rest = parts.at[u].set(jnp.maximum(parts[u] - q, 0))
            others = rest.sum()
            s = jnp.where(others > 0, s, 1)
            factor = (1 - s) / jnp.where(others > 0, others, 1)
            factor = {"others not rescaled": jnp.ones_like(s), "rescaled by 1 - s": 1 - s}.get(
                self.fault, factor
            )
            parts = jnp.where(drawn, (rest * factor).at[k].set(s * p[k]), parts)
            own = unscaled.at[u].set(jnp.maximum(unscaled[u] - q, 0)).at[k].set(s * p[k])
            unscaled = jnp.where(drawn, own, unscaled)
        mass = parts.sum(-1) / parts.sum()
        emitted = p if self.fault == "a final token from p" else parts
        return Stops(
            mass=mass,
            law=lambda node: emitted[node] / emitted[node].sum(),
            finite=jnp.asarray(True),
            empty_residuals=jnp.asarray(0, jnp.int32),
        )

    def _order(self, tree: DraftTree) -> jax.Array:
        """i32[N - 1]: the drawn nodes as they are taken."""
        size = tree.shape.num_nodes
        slots = jnp.arange(1, size, dtype=jnp.int32)
        if self.fault != "parent by parent":
            return slots
        depths = jnp.asarray(tree.shape.depths[1:])
        return slots[jnp.argsort(depths * size + tree.parents[1:], stable=True)]
