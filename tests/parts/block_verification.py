"""Block verification of a chain (Sun et al. 2024, algorithm 2)."""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.core.sampling import is_law
from rsd_jax.core.tree import SiblingLaw
from rsd_jax.core.types import NO_NODE
from rsd_jax.verifiers.base import Decision, Verifier, root_only


@dataclasses.dataclass(frozen=True)
class BlockVerification(Verifier):
    """Accepts the longest prefix whose own test succeeds, whatever the tests of shorter prefixes.

    c_0 = 1, c_i = min(1, c_{i-1} p(x_i) / q(x_i)); the test of length i succeeds with probability
    h_i = s_i / (s_i + 1 - c_i), s_i = sum (c_i p - q)+ over the next token, and h = c at the end of
    the chain. After i < L tokens the correction is drawn from N[(c_i p - q)+], after L from p.
    """

    @property
    def accepts(self):
        return frozenset({SiblingLaw.NONE, SiblingLaw.POINT, SiblingLaw.SINGLE})

    def decide(self, tree, target, uniforms):
        shape = tree.shape
        if shape.depth == 0:
            return root_only(target)
        nodes = jnp.arange(shape.num_nodes, dtype=jnp.int32)
        log_p = jax.vmap(target.at)(nodes)
        p = jnp.exp(log_p)
        inner = jnp.exp(jax.vmap(tree.draft_logprobs_at)(nodes[:-1]))
        q = jnp.concatenate([inner, jnp.zeros_like(p[:1])])
        length = tree.valid.sum(dtype=jnp.int32) - 1
        one = jnp.ones((), p.dtype)

        def extend(c, node):
            x = tree.tokens[node]
            ratio = p[node - 1, x] / q[node - 1, x]
            c = jnp.where(node <= length, jnp.minimum(one, c * ratio), 0.0)
            return c, c

        _, c = jax.lax.scan(extend, one, nodes[1:])
        c = jnp.concatenate([one[None], c])
        q = jnp.where((nodes < length)[:, None], q, 0.0)  # no draft after the last token
        excess = jnp.maximum(c[:, None] * p - q, 0.0)
        mass = excess.sum(-1)
        whole = mass + 1 - c  # 0 only if p = q and every token so far was certain to be kept
        inside = jnp.where(whole > 0, mass / jnp.where(whole > 0, whole, one), one)
        holds = jnp.where(nodes < length, inside, c)
        held = (uniforms < holds) & (nodes <= length)
        last = jnp.where(held, nodes, 0).max()
        depths = nodes[1:]
        path = jnp.where(depths <= last, depths, NO_NODE)
        law = jnp.where(mass[last] > 0, excess[last] / mass[last], p[last])
        return Decision(
            num_accepted=last,
            path=path,
            ranks=jnp.where(path == NO_NODE, NO_NODE, 0),
            law=law,
            finite=(is_law(log_p) | ~tree.valid).all(),
            empty_residuals=jnp.zeros((), jnp.int32),
        )
