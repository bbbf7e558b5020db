"""Chooses the tree of a method for a pair of models, a text and a machine, by measurements."""

from rsd_jax.planning.acceptance import WIDE_TREE, RankAcceptance, rank_acceptance
from rsd_jax.planning.costs import BlockCosts, measure_costs
from rsd_jax.planning.plan import Plan, plan_tree

__all__ = [
    "WIDE_TREE",
    "BlockCosts",
    "Plan",
    "RankAcceptance",
    "measure_costs",
    "plan_tree",
    "rank_acceptance",
]
