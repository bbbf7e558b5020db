"""Chooses the tree of a method for a pair of models, a text and a machine, by measurements."""

from rsd_jax.planning.acceptance import RankAcceptance, rank_acceptance, wide_tree
from rsd_jax.planning.against import Held, against
from rsd_jax.planning.calibrate import calibrate
from rsd_jax.planning.calibration import (
    Calibration,
    Candidate,
    Conditions,
    Expected,
    load_calibration,
)
from rsd_jax.planning.costs import BlockCosts, measure_costs
from rsd_jax.planning.oracle import Reached, Share, reached
from rsd_jax.planning.plan import Plan, plan_tree

__all__ = [
    "BlockCosts",
    "Calibration",
    "Candidate",
    "Conditions",
    "Expected",
    "Held",
    "Plan",
    "RankAcceptance",
    "Reached",
    "Share",
    "against",
    "calibrate",
    "load_calibration",
    "measure_costs",
    "plan_tree",
    "rank_acceptance",
    "reached",
    "wide_tree",
]
