"""What the flags of `flags.measuring` choose: methods and encoded prompts."""

import argparse
from collections.abc import Iterable
from typing import Any

from rsd_jax.engine.methods import Method, build_method, method_of_tree
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.prompts import token_ids
from rsd_jax.tasks.jsonl import jsonl_task
from rsd_jax.tasks.prompts import load_prompts


def methods_of(given: Iterable[str]) -> list[Method]:
    """`ar`, and the methods that are named as in --methods; a repeated one is taken once.

    Raises:
      ConfigError: a name is malformed, or see `method_of_tree`.
    """
    return list(dict.fromkeys([build_method("ar"), *map(_method, given)]))


def prompts_of(args: argparse.Namespace, tokenizer: Any) -> list[list[int]]:
    """The first `args.num_prompts` prompts of the file `args.prompts`, or of the pair that ships.

    Raises:
      ConfigError: the file cannot be read, or holds fewer prompts.
    """
    chosen = load_prompts()[: args.num_prompts]
    if args.prompts:
        chosen = jsonl_task(path=args.prompts, template=args.template).first(args.num_prompts)
    return token_ids(chosen, tokenizer)


def _method(given: str) -> Method:
    name, *rest = given.split(":")
    if not 1 <= len(rest) <= 2:
        raise ConfigError(
            f"--methods {given}: write METHOD:TREE or METHOD:TREE:VERIFIER, such as rsd_s:4x4"
        )
    tree, verifier = (*rest, None)[:2]
    return method_of_tree(name, tree or "-", verifier=verifier)
