"""Drafters and tree rules. To add one, add a file in this folder and a line in a registry below."""

from typing import Any

from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters.base import Drafter
from rsd_jax.drafters.beam import Beam
from rsd_jax.drafters.constant_branching import ConstantBranching
from rsd_jax.drafters.dynamic_chain import DynamicChain
from rsd_jax.drafters.dyspec import DySpecTree
from rsd_jax.drafters.growth import RuleDrafter, TreeRule
from rsd_jax.drafters.independent_chains import IndependentChains
from rsd_jax.drafters.lookup import LookupDrafter
from rsd_jax.drafters.mixed_beam import MixedBeam
from rsd_jax.drafters.model import ModelDrafter
from rsd_jax.drafters.no_draft import NoDraft
from rsd_jax.drafters.self_drafter import SelfDrafter
from rsd_jax.drafters.static_tree import StaticTree
from rsd_jax.drafters.stochastic_beam import StochasticBeam
from rsd_jax.drafters.swift import SwiftDrafter
from rsd_jax.drafters.with_lookup import WithLookup

TREE_RULES: dict[str, type[Any]] = {
    "beam": Beam,
    "constant_branching": ConstantBranching,
    "dyspec": DySpecTree,
    "independent_chains": IndependentChains,
    "mixed_beam": MixedBeam,
    "static": StaticTree,
    "stochastic_beam": StochasticBeam,
}
"""Trees that any drafter of a model grows, by name."""

DRAFTERS = {
    "dynamic_chain": DynamicChain,
    "lookup": LookupDrafter,
    "model": ModelDrafter,
    "no_draft": NoDraft,
    "self": SelfDrafter,
    "swift": SwiftDrafter,
    "with_lookup": WithLookup,
}
"""What proposes trees, by name: earlier text, a draft model, nothing, the target with sub-layers
skipped, or one of these two together with earlier text."""

__all__ = [
    "DRAFTERS",
    "TREE_RULES",
    "Beam",
    "ConstantBranching",
    "Drafter",
    "DySpecTree",
    "DynamicChain",
    "IndependentChains",
    "LookupDrafter",
    "MixedBeam",
    "ModelDrafter",
    "NoDraft",
    "RuleDrafter",
    "SelfDrafter",
    "SiblingLaw",
    "StaticTree",
    "StochasticBeam",
    "SwiftDrafter",
    "TreeRule",
    "WithLookup",
]
