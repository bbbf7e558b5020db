"""Samples trees and blocks from tables with the engine's keys, many rows in one call."""

import collections
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import block_keys, row_keys
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import NO_NODE, VerifyResult
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters.backbone import BackboneRule, grow_backbone
from rsd_jax.drafters.growth import TreeRule, grow_tree
from rsd_jax.drafters.tree_law import Table
from rsd_jax.testing.candidate_trees import table_score_step
from rsd_jax.testing.drawn_trees import DrawnTrees
from rsd_jax.testing.enumeration import OutcomeLaw, outcome_laws
from rsd_jax.testing.instances import (
    Instance,
    log_tables,
    prefix_indices,
    table_score_level,
    target_logits,
)
from rsd_jax.testing.statistics import chi_square
from rsd_jax.verifiers.base import TargetLaws, Verifier

ROWS = 100_000
"""Default sample size: 25 / TV^2 for a total variation of .016."""


_QUICK = {"xla_backend_optimization_level": 1}  # as compiling takes longer than running


@functools.partial(jax.jit, static_argnames=("rule", "rows"), compiler_options=_QUICK)
def _grow(rule, draft, seed, rows: int) -> tuple[DraftTree, jax.Array]:
    first_block = jnp.zeros((rows,), jnp.int32)
    keys = block_keys(row_keys(seed, jnp.arange(rows, dtype=jnp.int32)), first_block)
    root = jnp.zeros((rows,), jnp.int32)
    if isinstance(rule, BackboneRule):
        tree, _ = grow_backbone(
            rule,
            table_score_step(draft),
            root,
            root,
            jnp.ones((rows,), bool),
            warp=make_warp(1.0),
            keys=keys,
        )
        return tree, keys
    carry = jnp.zeros((rows, 0), jnp.int32)
    score_level = table_score_level(rule.shape, draft)
    tree, _ = grow_tree(rule, score_level, carry, root, warp=make_warp(1.0), keys=keys)
    return tree, keys


def sample_trees(
    rule: TreeRule | BackboneRule, draft: Table, *, rows: int = ROWS, seed: int = 0
) -> DraftTree:
    """Draws a tree for every row from a table; compiles once per rule, V and `rows`."""
    return _grow(rule, log_tables(draft), seed, rows)[0]


@functools.partial(jax.jit, static_argnames=("verifier",), compiler_options=_QUICK)
def _verify(verifier, tree: DraftTree, target, keys: jax.Array) -> VerifyResult:
    laws = TargetLaws(logits=target_logits(target, tree), warp=make_warp(1.0))
    return verifier.verify(tree, laws, keys)


def sample_outcomes(
    verifier: Verifier,
    rule: TreeRule | BackboneRule,
    instance: Instance,
    *,
    rows: int = ROWS,
    seed: int = 0,
) -> OutcomeLaw:
    """Counts of the outcomes of `rows` blocks, in the layout of an `OutcomeLaw`."""
    tree, keys = _grow(rule, log_tables(instance.draft), seed, rows)
    result = _verify(verifier, tree, log_tables(instance.target), keys)
    tree, result = jax.device_get((tree, result))
    assert result.finite.all(), "the verifier rejected a target law as not finite"
    vocab = instance.vocab_size
    prefix = prefix_indices(rule.shape, tree.tokens, tree.parents, vocab)
    last = np.maximum(result.num_accepted - 1, 0)
    node = np.take_along_axis(result.path, last[:, None], axis=1)[:, 0]
    row = prefix[np.arange(rows), np.where(result.num_accepted > 0, node, 0)]
    counts = []
    for accepted in range(rule.shape.depth + 1):
        table = np.zeros((vocab**accepted, vocab))
        here = result.num_accepted == accepted
        np.add.at(table, (row[here], result.next_token[here]), 1.0)
        counts.append(table)
    return tuple(counts)


def assert_sampled_law(
    verifier: Verifier,
    rule: TreeRule | BackboneRule,
    instances: Sequence[Instance],
    *,
    right: Verifier,
    false_alarm: float,
) -> None:
    """Asserts that sampled blocks follow the law enumerated for the verifier `right`.

    Args:
      verifier: its `verify` is sampled, keys and draws included.
      rule: how trees are drawn.
      instances: all with the same V, and as deep as the rule.
      right: its `decide` is enumerated.
      false_alarm: probability per instance that a correct sample fails.

    Raises:
      AssertionError: the laws differ; names the instance and the measured total variation.
    """
    laws = outcome_laws(right, rule, instances)
    for number, (instance, law) in enumerate(zip(instances, laws, strict=True)):
        counts = sample_outcomes(verifier, rule, instance)
        check = chi_square(flat(counts), flat(law), false_alarm=false_alarm)
        if not check.passed:
            raise AssertionError(
                f"blocks of {type(verifier).__name__} do not follow the law on instance {number}: "
                f"{check}"
            )


def flat(law: OutcomeLaw) -> np.ndarray:
    """All entries of an outcome law, or of its counts, in one row."""
    return np.concatenate([table.reshape(-1) for table in law])


def tree_counts(trees: DrawnTrees, sampled: DraftTree) -> np.ndarray:
    """f64[Z + 1]: how often each enumerated tree was drawn; last, how often any other tree."""

    def rows(tokens: np.ndarray, parents: np.ndarray, valid: np.ndarray) -> list[bytes]:
        # The contents of invalid slots do not matter.
        both = np.where(valid[..., None], np.stack([tokens, parents], axis=-1), NO_NODE)
        each = both[:, 1:].reshape(len(both), -1).astype(np.int32)
        return [row.tobytes() for row in each]

    place = {row: z for z, row in enumerate(rows(trees.tokens, trees.parents, trees.valid))}
    fields = jax.device_get((sampled.tokens, sampled.parents, sampled.valid))
    counts = np.zeros(len(place) + 1)
    for row, n in collections.Counter(rows(*fields)).items():
        counts[place.get(row, len(place))] += n
    return counts


def level_prefixes(sampled: DraftTree, level: int, vocab_size: int) -> np.ndarray:
    """int[B, w]: the prefixes of a level's slots, as rows of a table."""
    tokens, parents = jax.device_get((sampled.tokens, sampled.parents))
    index = prefix_indices(sampled.shape, tokens, parents, vocab_size)
    return index[:, sampled.shape.level(level)]
