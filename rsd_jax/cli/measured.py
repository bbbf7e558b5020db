"""What the flags of `flags.measuring` choose: methods and encoded prompts."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsd_jax.engine.methods import Method, build_method, method_of_tree
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.prompts import token_ids
from rsd_jax.planning import BlockCosts
from rsd_jax.tasks.jsonl import jsonl_task
from rsd_jax.tasks.prompts import load_prompts

_LEAST = 1e-4  # a threshold of 0 would be none
COSTS = "@costs"
"""In a tree: the threshold above which a node is worth its seconds, from measured costs."""


def methods_of(
    given: Sequence[str], measure: Callable[[int], BlockCosts] | None = None
) -> list[Method]:
    """`ar`, and the methods that are named as in --methods; a repeated one is taken once.

    Args:
      given: the names.
      measure: gives the costs of passes over at most so many nodes, for trees with `COSTS`; called
        once if there is such a tree.

    Raises:
      ConfigError: a name is malformed, or see `method_of_tree`.
    """
    costs, sizes = None, [_size(name) for name in given if COSTS in name]
    if sizes and measure is None:
        raise ConfigError(f"--methods: {COSTS} is for rsd calibrate, with a draft model")
    if sizes and measure is not None:
        costs = measure(1 + max(width * length for width, length in sizes))
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


def _method(given: str, costs: BlockCosts | None) -> Method:
    name, *rest = given.split(":")
    if not 1 <= len(rest) <= 2:
        raise ConfigError(
            f"--methods {given}: write METHOD:TREE or METHOD:TREE:VERIFIER, such as rsd_s:4x4"
        )
    tree, verifier = rest[0], (*rest, None)[1]
    if COSTS in tree and costs is not None:
        width, length = _size(given)
        threshold = costs.threshold(width=width, length=length)
        tree = tree.replace(COSTS, f"@{_in_words(threshold)}", 1)
    return method_of_tree(name, tree or "-", verifier=verifier)


def _size(given: str) -> tuple[int, int]:
    """Width and length of a tree with `COSTS`."""
    sides = given.partition(COSTS)[0].rpartition(":")[2].split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise ConfigError(
            f"--methods {given}: {COSTS} follows WIDTHxLENGTH, as in dyspec:1x6{COSTS}"
        )
    return int(sides[0]), int(sides[1])


def _in_words(threshold: float) -> str:
    """Two digits of a threshold. From 1 on no node pays; the tree then gets 0.99."""
    value = min(max(threshold, _LEAST), 0.99)
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")
