"""DySpec's trees: which slots are drawn, what a wrong priority does to the law, pass widths."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.sampling import row_keys
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters import (
    DySpecTree,
    LookupDrafter,
    ModelDrafter,
    SelfDrafter,
    WithLookup,
)
from rsd_jax.drafters.growth import grow_tree
from rsd_jax.drafters.tree_law import ordered_samples
from rsd_jax.engine.methods import lossless_verifiers, method_of_tree
from rsd_jax.errors import ConfigError
from rsd_jax.testing.drawn_trees import drawn_trees, pack_trees
from rsd_jax.testing.enumeration import assert_lossless, total_variations
from rsd_jax.testing.instances import KINDS, log_tables, random_instances, table_score_level
from rsd_jax.testing.monte_carlo import sample_trees
from rsd_jax.testing.validation import validate_tree
from rsd_jax.verifiers import VERIFIERS
from tests import tiny
from tests.drafters.growing import grown

_RULES = (DySpecTree(2, 2), DySpecTree(2, 2, 0.3), DySpecTree(3, 1, 0.2), DySpecTree(1, 3, 0.4))
_INSTANCES = random_instances(3, 3, 2 * len(KINDS), seed=5)


@dataclasses.dataclass(frozen=True)
class RankedByItsToken(DySpecTree):
    """The mutant: of three drawn children, the level keeps those whose own tokens are likeliest."""

    def drawn_trees(self, draft):
        (law,) = draft[: self.length]
        trees = [
            (p, (((),), tuple(sorted(((x,) for x in tokens), key=lambda child: -law[0][child[0]]))))
            for p, tokens in ordered_samples(law[0], 3)
        ]
        kept = [(p, (root, level[: self.width])) for p, (root, level) in trees]
        return pack_trees(self.shape, kept, next(iter(self.sibling_laws)))


@pytest.mark.parametrize("rule", _RULES[1:], ids=str)
@pytest.mark.parametrize("name", ["recursive_rejection", "traversal", "coupling"])
def test_the_law_is_the_targets(name, rule):
    verifier = VERIFIERS[name]()
    instances = random_instances(3, rule.length, len(KINDS), seed=3)
    assert assert_lossless(verifier, rule, instances) < 1e-12


def test_a_priority_that_sees_the_token_is_caught():
    instances = random_instances(3, 1, 2 * len(KINDS), seed=3)
    verifier = VERIFIERS["recursive_rejection"]()
    tv = total_variations(verifier, RankedByItsToken(2, 1), instances)
    print(f"ranked by the child's own probability: TV {np.round(np.sort(tv), 3)}")
    assert np.median(tv) > 0.02
    assert assert_lossless(verifier, DySpecTree(2, 1), instances) < 1e-12


def test_slots_are_taken_from_a_heap():
    """Against a heap of slots, one pop after the other, on the tokens that the nodes would draw."""
    rule, (instance,) = DySpecTree(3, 3, 0.02), random_instances(4, 3, 1, seed=2)
    tree = sample_trees(rule, instance.draft)
    validate_tree(tree, 4)
    tokens, parents, valid = (np.asarray(x) for x in (tree.tokens, tree.parents, tree.valid))
    for row in range(200):
        value, path = {0: 1.0}, {0: ()}
        for level in range(1, 4):
            nodes = [n for n in range(*rule.shape.level(level).indices(99)) if valid[row, n]]
            above = {parents[row, n] for n in nodes}
            children = {u: [n for n in nodes if parents[row, n] == u] for u in above}
            laws = {
                u: instance.draft[level - 1][sum(t * 4**k for k, t in enumerate(path[u][::-1]))]
                for u in value
                if len(path[u]) == level - 1
            }
            # Each pop takes the open slot with the highest priority.
            left, taken = {u: value[u] for u in laws}, []
            while len(taken) < 3 and max(left.values()) > 0.02 + 1e-6:
                u = max(left, key=left.get)
                drawn = children.get(u, [])
                at = sum(1 for parent, _ in taken if parent == u)
                if at == len(drawn):
                    break
                taken.append((u, drawn[at]))
                left[u] -= value[u] * laws[u][tokens[row, drawn[at]]]
            assert [n for _, n in taken] == nodes
            for u, n in taken:
                path[n] = (*path[u], int(tokens[row, n]))
                value[n] = value[u] * laws[u][tokens[row, n]]


def test_greedy_trees_hold_the_likeliest_paths():
    (instance,) = random_instances(5, 2, 1, seed=3)
    for threshold in (0.0, 0.1):
        rule = DySpecTree(3, 2, threshold)
        tree = grown(rule, instance.draft, 0.0)
        first = np.sort(instance.draft[0][0])[::-1]
        valid = tree.valid[0, 1:4]
        np.testing.assert_allclose(np.exp(tree.scores[0, 1:4]), first[:3], rtol=1e-5)
        assert valid.tolist() == (first[:3] > threshold).tolist()
        paths = [
            first_law * law
            for x, first_law in enumerate(instance.draft[0][0])
            if x in tree.tokens[0, 1:4][valid]
            for law in instance.draft[1][x]
        ]
        best = np.sort(paths)[::-1][:3]
        here = tree.valid[0, 4:7]
        np.testing.assert_allclose(np.exp(tree.scores[0, 4:7])[here], best[best > threshold], 1e-5)
    assert not here.all()  # The threshold left slots empty.


def test_words_and_bad_values():
    method = rsd_jax.build_method("dyspec", width=4, length=3, threshold=0.05, lookup=2)
    assert method.tree == "4x3@0.05+2"
    for words in ("4x3", "4x3@0.05", "1x2+3", "4x3@0.0000001"):
        assert method_of_tree("dyspec", words).tree == words
        assert method_of_tree("self_dyspec", words).tree == words
    for words in ("4", "4@0.1", "4x3@", "4x3@2", "4x3@nan", "4-3@0.1"):
        with pytest.raises(ConfigError, match="not understood; write it like '6x5"):
            method_of_tree("dyspec", words)
    for threshold in (-0.1, 1.0, float("nan"), "a", None):
        with pytest.raises(ConfigError, match="threshold="):
            DySpecTree(2, 2, threshold)
    assert "k_seq" not in lossless_verifiers(rsd_jax.build_method("dyspec", width=1, length=2))


def test_empty_slots_make_the_pass_narrow():
    assert DySpecTree(4, 3).pass_widths is None
    for kind in (ModelDrafter, SelfDrafter):
        assert kind(DySpecTree(4, 3, 0.1)).pass_widths == (2, 3, 5, 9, 13)
    target, draft = tiny.pair()
    full, pruned = (
        rsd_jax.generate(
            rsd_jax.build_method("dyspec", width=3, length=3, threshold=threshold),
            target,
            draft,
            tiny.PROMPTS,
            max_new_tokens=24,
            temperature=1.0,
        )
        for threshold in (0.0, 0.4)
    )

    def drafted(result):
        return result.stats.drafted / result.stats.blocks

    assert (drafted(full) == 3).all()
    assert (drafted(pruned) < 3).all()
    lengths = [[len(row) for row in result.tokens] for result in (full, pruned)]
    assert lengths == [[24] * 4] * 2


@dataclasses.dataclass(frozen=True)
class NeverSkips(DySpecTree):
    """The same trees; every level is scored, and the target pass takes all slots."""

    pass_widths = None


@pytest.mark.parametrize(("kind", "temperature"), [("model", 0.0), ("self", 1.0), ("model+2", 1.0)])
def test_skipped_passes_change_no_token(kind, temperature):
    """In a batch whose rows end at different times."""
    target, draft = tiny.pair()
    tokens, passes = [], []
    for rule in (DySpecTree(2, 3, 0.4), NeverSkips(2, 3, 0.4)):
        drafter = SelfDrafter(rule) if kind == "self" else ModelDrafter(rule)
        if kind == "model+2":
            drafter = WithLookup(drafter, LookupDrafter(2, longest=3, shortest=1))
        result = rsd_jax.generate(
            rsd_jax.Method("dyspec", drafter, VERIFIERS["recursive_rejection"]()),
            target,
            None if kind == "self" else draft,
            tiny.PROMPTS,
            max_new_tokens=[8, 24, 16, 24],
            temperature=temperature,
            skips=np.asarray([[False, False], [False, True]]) if kind == "self" else None,
        )
        tokens.append(result.tokens)
        passes.append((result.stats.drafted / result.stats.blocks).mean())
    assert tokens[0] == tokens[1]
    assert kind == "model+2" or passes[0] < 3.0  # of these only the depth is counted


def test_empty_levels_are_not_scored():
    """Rows that are done do not count."""
    rule, instances = DySpecTree(1, 3, 0.5), random_instances(3, 3, 2 * len(KINDS), seed=5)
    levels_seen = set()
    for instance in instances:
        score = table_score_level(rule.shape, log_tables(instance.draft))

        def counted(level, tokens, visible, carry, score=score):
            logits, tokens = score(level, tokens, visible, carry[0])
            return logits, (tokens, carry[1].at[level].set(True))

        start = jnp.zeros((32, 0), jnp.int32), jnp.zeros(rule.length, bool)
        tree, (_, scored) = grow_tree(
            rule,
            counted,
            start,
            jnp.zeros((32,), jnp.int32),
            active=jnp.arange(32) == 0,
            warp=make_warp(1.0),
            keys=row_keys(0, jnp.arange(32)),
        )
        valid = np.asarray(tree.valid)
        nodes = [valid[0, rule.shape.level(level)].any() for level in range(rule.length)]
        assert np.asarray(scored).tolist() == nodes
        levels_seen.add(sum(nodes))
    assert len(levels_seen) > 1


def test_every_tree_is_enumerated_once():
    for rule, instance in itertools.product(_RULES, _INSTANCES):
        trees = drawn_trees(rule, instance.draft)
        assert trees.probability.sum() == pytest.approx(1.0)
        rows = np.concatenate([trees.tokens * trees.valid, trees.parents * trees.valid], axis=1)
        assert len(np.unique(rows, axis=0)) == len(rows)
