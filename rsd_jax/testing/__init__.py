"""The testing kit: checks your own verifier, tree rule or drafter against its exact law.

The rest of the package does not import the kit. `assert_lossless` is the most important check:

    from rsd_jax.testing import assert_lossless, hold_against_optimum, random_instances
    from rsd_jax.drafters import TREE_RULES

    rule = TREE_RULES["constant_branching"]((2, 2))
    instances = random_instances(vocab_size=3, depth=2, count=21)
    assert_lossless(MyVerifier(), rule, instances)

`hold_against_optimum` says how much a lossless verifier accepts of what any could:

    print(hold_against_optimum({"mine": MyVerifier()}, rule, instances[0]))
"""

from rsd_jax.testing.arbiter import assert_same
from rsd_jax.testing.drawn_trees import DrawnTrees, drawn_trees
from rsd_jax.testing.enumeration import (
    assert_lossless,
    assert_strict,
    outcome_laws,
    output_law,
    total_variations,
)
from rsd_jax.testing.instances import Instance, random_instances
from rsd_jax.testing.joint_law import check_joint_law
from rsd_jax.testing.monte_carlo import assert_sampled_law, sample_outcomes, sample_trees
from rsd_jax.testing.optimum import (
    Standings,
    hold_against_optimum,
    one_node_optimum_iid,
    one_node_optimum_without_replacement,
    tokens_per_block,
    whole_tree_optimum,
)
from rsd_jax.testing.statistics import ChiSquare, chi_square, power
from rsd_jax.testing.table_model import TableModel, sequence_law
from rsd_jax.testing.tiny_llama import tiny_pair
from rsd_jax.testing.validation import validate_tree

__all__ = [
    "ChiSquare",
    "DrawnTrees",
    "Instance",
    "Standings",
    "TableModel",
    "assert_lossless",
    "assert_same",
    "assert_sampled_law",
    "assert_strict",
    "check_joint_law",
    "chi_square",
    "drawn_trees",
    "hold_against_optimum",
    "one_node_optimum_iid",
    "one_node_optimum_without_replacement",
    "outcome_laws",
    "output_law",
    "power",
    "random_instances",
    "sample_outcomes",
    "sample_trees",
    "sequence_law",
    "tiny_pair",
    "tokens_per_block",
    "total_variations",
    "validate_tree",
    "whole_tree_optimum",
]
