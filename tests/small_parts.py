"""Small instances of parts, built from the types of their fields, so that new parts are tested."""

import dataclasses
import itertools
import typing
from collections.abc import Sequence

from rsd_jax.drafters import (
    TREE_RULES,
    Drafter,
    IndependentChains,
    LookupDrafter,
    ModelDrafter,
    SelfDrafter,
    StochasticBeam,
    TreeRule,
)
from rsd_jax.drafters.backbone import BackboneRule
from rsd_jax.engine.methods import fits

__all__ = ["every", "fits", "instances", "largest_of_each_rule", "small_values"]


def instances(part: type) -> list:
    """Small instances of a dataclass, by the types of its fields, with defaults and all flags."""
    types = typing.get_type_hints(part)
    options = {
        field.name: small_values(types[field.name])
        if field.default is dataclasses.MISSING or isinstance(field.default, bool)
        else [field.default]
        for field in dataclasses.fields(part)
    }
    chosen = itertools.product(*options.values())
    return [part(**dict(zip(options, values, strict=True))) for values in chosen]


def small_values(kind) -> list:
    if kind is TreeRule:
        return every(TREE_RULES)
    if kind is BackboneRule:
        return [BackboneRule(2, 0.4, (0.7, 0.5), (1, 2, 3), (1, 2, 3))]
    if kind is Drafter:
        return [ModelDrafter(StochasticBeam(2, 2)), SelfDrafter(IndependentChains(2, 2))]
    if kind is LookupDrafter:
        return [LookupDrafter(2, longest=3, shortest=1)]
    return {
        bool: [False, True],
        int: [2],
        float: [0.4],
        tuple[int, ...]: [(1, 1), (2, 2)],
        Sequence[int]: [(-1, 0, 0, 2, 2)],  # parents: a leaf beside a node with two children
    }[kind]


def every(registry: dict[str, type]) -> list:
    return [part for name in registry for part in instances(registry[name])]


def largest_of_each_rule() -> list[TreeRule]:
    """The small instance with the most slots, for each registered tree rule."""
    return [max(instances(rule), key=_slots) for rule in TREE_RULES.values()]


def _slots(rule: TreeRule) -> int:
    return rule.shape.num_nodes
