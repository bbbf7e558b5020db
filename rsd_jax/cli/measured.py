"""What the flags of `flags.measuring` choose: methods and encoded prompts."""

import argparse
import functools
from collections.abc import Callable, Iterable
from typing import Any

from rsd_jax.engine.methods import Method, build_method, method_of_tree
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.prompts import token_ids
from rsd_jax.planning import BlockCosts
from rsd_jax.tasks.jsonl import jsonl_task
from rsd_jax.tasks.prompts import load_prompts

COSTS = "@costs"
"""In a tree: the threshold above which a node is worth its seconds, from measured costs."""


def methods_of(
    given: Iterable[str], measure: Callable[[], BlockCosts] | None = None
) -> list[Method]:
    """`ar`, and the methods that are named as in --methods; a repeated one is taken once.

    Args:
      given: the names.
      measure: gives the costs for trees with `COSTS`; called once if there is one.

    Raises:
      ConfigError: a name is malformed, or see `method_of_tree`.
    """
    costs = None if measure is None else functools.cache(measure)
    named = (_method(name, costs) for name in given)
    return list(dict.fromkeys([build_method("ar"), *named]))


def prompts_of(args: argparse.Namespace, tokenizer: Any) -> list[list[int]]:
    """The first `args.num_prompts` prompts of the file `args.prompts`, or of the pair that ships.

    Raises:
      ConfigError: the file cannot be read, or holds fewer prompts.
    """
    chosen = load_prompts()[: args.num_prompts]
    if args.prompts:
        chosen = jsonl_task(path=args.prompts, template=args.template).first(args.num_prompts)
    return token_ids(chosen, tokenizer)


def _method(given: str, costs: Callable[[], BlockCosts] | None) -> Method:
    name, *rest = given.split(":")
    if not 1 <= len(rest) <= 2:
        raise ConfigError(
            f"--methods {given}: write METHOD:TREE or METHOD:TREE:VERIFIER, such as rsd_s:4x4"
        )
    tree, verifier = rest[0], (*rest, None)[1]
    if COSTS in tree:
        tree = _with_threshold(given, tree, costs)
    return method_of_tree(name, tree or "-", verifier=verifier)


def _with_threshold(given: str, tree: str, costs: Callable[[], BlockCosts] | None) -> str:
    """The tree with a number in place of "costs"; at most 0.99, above which no node pays."""
    if costs is None:
        raise ConfigError(f"--methods {given}: {COSTS} is for rsd calibrate, with a draft model")
    size, rest = tree.split(COSTS, 1)
    sides = size.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise ConfigError(
            f"--methods {given}: {COSTS} follows WIDTHxLENGTH, as in dyspec:1x6{COSTS}"
        )
    threshold = costs().threshold(width=int(sides[0]), length=int(sides[1]))
    return f"{size}@{min(threshold, 0.99):.2f}{rest}"
