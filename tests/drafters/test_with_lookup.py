"""Lookup merged into drawn trees: the merged tree, its exact law, and what the draft takes in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.tree import DenseLaws, DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.drafters import DRAFTERS, TREE_RULES, LookupDrafter, ModelDrafter, WithLookup
from rsd_jax.engine.methods import fits, method_of_tree
from rsd_jax.testing.drawn_trees import DrawnTrees, drawn_trees
from rsd_jax.testing.enumeration import assert_lossless, total_variations
from rsd_jax.testing.instances import KINDS, random_instances
from rsd_jax.testing.validation import validate_tree
from rsd_jax.verifiers import VERIFIERS

CHAIN = (1, 0, 2)
_FIXED = TREE_RULES["constant_branching"]
RULES = (
    TREE_RULES["stochastic_beam"](2, 2),
    TREE_RULES["independent_chains"](2, 2),
    _FIXED((2, 1)),
    TREE_RULES["static"]((-1, 0, 0, 2)),
)


@dataclasses.dataclass(frozen=True)
class ChainBehind:
    """The trees of a rule with a chain of point masses merged in, one node after the other.

    Attributes:
      rule: draws the tree.
      chain: the tokens.
      in_place: the mutant: a drawn node with the chain's token is turned into the point mass.
    """

    rule: object
    chain: tuple[int, ...]
    in_place: bool = False

    @property
    def shape(self) -> TreeShape:
        return WithLookup(ModelDrafter(self.rule), LookupDrafter(len(self.chain))).shape

    def drawn_trees(self, draft) -> DrawnTrees:
        drawn = drawn_trees(self.rule, draft)
        rows = [self._merged(drawn, row) for row in range(len(drawn.tokens))]
        tokens, parents, valid, laws = map(np.stack, zip(*rows, strict=True))
        return DrawnTrees(
            self.shape,
            drawn.probability,
            tokens.astype(np.int32),
            parents.astype(np.int32),
            valid,
            siblings=SiblingLaw.MIXED,
            child_laws=laws.astype(np.int8),
        )

    def _merged(self, drawn: DrawnTrees, row: int) -> tuple[np.ndarray, ...]:
        shape, old = self.shape, drawn.shape
        tokens, valid, laws = np.zeros(shape.num_nodes), np.zeros(shape.num_nodes, bool), []
        parents = np.asarray([NO_NODE, *(shape.starts[d - 1] for d in shape.depths[1:])])
        laws = np.full(shape.num_nodes, drawn.siblings.code)
        new_slot = [shape.starts[d] + i - old.starts[d] for i, d in enumerate(old.depths)]
        for node, slot in enumerate(new_slot):
            tokens[slot], valid[slot] = drawn.tokens[row, node], drawn.valid[row, node]
            if node:
                parents[slot] = new_slot[drawn.parents[row, node]]
        here = 0
        for depth, token in enumerate(self.chain, start=1):
            children = np.flatnonzero((parents == here) & valid)
            same = [child for child in children if tokens[child] == token]
            if same:
                here = same[0]
                if self.in_place:
                    laws[here] = SiblingLaw.POINT.code
                continue
            slot = shape.level(depth).stop - 1
            tokens[slot], valid[slot], parents[slot] = token, True, here
            laws[slot], here = SiblingLaw.POINT.code, slot
        return tokens, parents, valid, laws


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_merged_tree(rule):
    """On every tree that can be drawn, for chains shorter and longer than the tree."""
    (instance,) = random_instances(3, 2, 1, seed=3)
    drawn = drawn_trees(rule, instance.draft)
    rows, shape = len(drawn.tokens), rule.shape
    laws = np.zeros((rows, shape.num_internal, 3), np.float32)
    tree = DraftTree(
        tokens=jnp.asarray(drawn.tokens),
        parents=jnp.asarray(drawn.parents),
        valid=jnp.asarray(drawn.valid),
        scores=-jnp.broadcast_to(
            jnp.arange(shape.num_nodes, dtype=jnp.float32), drawn.tokens.shape
        ),
        laws=DenseLaws(jnp.asarray(laws - np.log(3).astype(np.float32))),
        finite=jnp.ones(rows, bool),
        shape=shape,
        siblings=drawn.siblings,
    )
    seen = set()
    for chain in ((1,), (1, 0), CHAIN, (2, 2, 1, 0)):
        drafter = WithLookup(ModelDrafter(rule), LookupDrafter(len(chain)))
        proposed = np.arange(rows) % 5 > 0
        merge = jax.jit(drafter.merge)
        merged = merge(
            tree, jnp.tile(jnp.asarray(chain, jnp.int32), (rows, 1)), jnp.asarray(proposed)
        )
        validate_tree(merged, 3)
        expected = ChainBehind(rule, chain).drawn_trees(instance.draft)
        assert merged.shape == expected.shape
        chain_slots = np.setdiff1d(np.arange(merged.shape.num_nodes), drafter._kept_slots)
        valid = expected.valid.copy()
        valid[np.ix_(~proposed, chain_slots)] = False
        np.testing.assert_array_equal(merged.valid, valid)
        for ours, other in (
            (merged.tokens, expected.tokens),
            (merged.parents, expected.parents),
            (merged.child_laws, expected.child_laws),
        ):
            np.testing.assert_array_equal(np.asarray(ours)[valid], other[valid])
        seen |= set(valid[:, chain_slots].sum(axis=1).tolist())
    assert seen >= {0, 1, 2, 3}  # held whole or not proposed, in part, not at all


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(
    "name", [name for name, kind in VERIFIERS.items() if SiblingLaw.MIXED in kind().accepts]
)
def test_its_law_is_the_targets(name, rule):
    merged = ChainBehind(rule, CHAIN[: 2 if "chains" in str(rule).lower() else 3])
    instances = random_instances(3, merged.shape.depth, len(KINDS), seed=5)
    assert assert_lossless(VERIFIERS[name](), merged, instances) < 1e-12


def test_a_point_mass_in_the_place_of_a_drawn_node_is_seen():
    instances = random_instances(3, 3, 2 * len(KINDS), seed=5)
    mutant = ChainBehind(_FIXED((2, 1)), CHAIN, in_place=True)
    tv = total_variations(VERIFIERS["recursive_rejection"](), mutant, instances)
    assert np.median(tv) > 0.01


def test_words_and_options():
    method = rsd_jax.build_method("rsd_s", width=4, length=3, lookup=6)
    assert method.tree == "4x3+6"
    assert method_of_tree("rsd_s", "4x3+6") == method
    assert method_of_tree("swift", "25+4").tree == "25+4"
    assert method.drafter.shape.widths == (1, 5, 5, 5, 1, 1, 1)
    assert method.drafter.pass_widths == (13, 19)
    with pytest.raises(rsd_jax.ConfigError, match="length"):
        rsd_jax.build_method("sd", length=2, lookup=0)
    for name in ("ar", "lookup"):
        with pytest.raises(rsd_jax.ConfigError, match=r"unknown options.*lookup"):
            rsd_jax.build_method(name, lookup=4)
    with pytest.raises(rsd_jax.ConfigError, match="not understood"):
        method_of_tree("rsd_s", "4x3+")
    with pytest.raises(rsd_jax.ConfigError, match="a model drafts, not into NoDraft's"):
        WithLookup(DRAFTERS["no_draft"](), LookupDrafter(2))
    with pytest.raises(rsd_jax.ConfigError, match=r"siblings as \['mixed'\]"):
        rsd_jax.build_method("spectr", num_drafts=2, length=3, lookup=4)
    assert not fits(VERIFIERS["k_seq"](), method.drafter)
