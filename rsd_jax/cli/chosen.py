"""What flags choose: a method, how tokens are sampled, models and a skip set."""

import argparse
import ast
import pathlib
import re
from typing import Any

import numpy as np

from rsd_jax.cli import choices
from rsd_jax.cli.flags.decoding import DEFAULT_PAIR
from rsd_jax.cli.pairs import load_pair
from rsd_jax.core.skips import check_skips, from_switches
from rsd_jax.engine.methods import Method, build_method, method_of_tree
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.models.pairs import LoadedPair
from rsd_jax.planning.calibration import load_calibration
from rsd_jax.search.state import SearchState

_DIGITS = re.compile(r"[01]+")


def method_of(args: argparse.Namespace) -> Method:
    """The method that the flags name; with its own tree if they name none.

    Raises:
      ConfigError: an option is unknown or malformed, see `build_method`; there is no draft; or the
        calibration has no method for the temperature.
    """
    if args.method == choices.AUTO:
        return load_calibration(args.calibration).best(args.temperature).build()
    name, default = (args.method, None) if args.method else _default(args)
    shared = {
        key: getattr(args, key)
        for key in ("verifier", "draft_temperature", "draft_top_k")
        if getattr(args, key) is not None
    }
    tree = args.tree or default or choices.TREES.get(name.removeprefix("self_"))
    if args.option or tree is None:
        method = build_method(name, **dict(map(_option, args.option)), **shared)
    else:
        method = method_of_tree(name, tree, **shared)
    if method.drafter.needs_draft_model and not _has_draft(args):
        raise ConfigError(
            f"--method={name} needs a draft model; give --draft, or a method that drafts with the "
            "target: swift or self_..."
        )
    return method


def _default(args: argparse.Namespace) -> tuple[str, str | None]:
    """Method and tree if the flags name no method."""
    if not _has_draft(args):
        return "ar", None
    if args.draft or not args.pair:
        return choices.DEFAULT
    return choices.DEFAULT_OF_PAIR.get(args.pair, choices.DEFAULT)


def _has_draft(args: argparse.Namespace) -> bool:
    """Whether the flags name a pair with a draft."""
    return bool(args.draft) or not args.target


def _option(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        raise ConfigError(
            f"--option {given}: write NAME=VALUE with a number or numbers, such as length=12 or "
            "counts=1,2,3,5"
        ) from None


def check_calibration(args: argparse.Namespace, pair: LoadedPair) -> None:
    """Raises `ConfigError` if the method comes from a calibration that does not hold here."""
    if args.method == choices.AUTO:
        known = load_calibration(args.calibration)
        known.check(pair.target, pair.draft, top_k=args.top_k, top_p=args.top_p)


def sampling_of(args: argparse.Namespace) -> Sampling:
    """The sampling that the flags ask for, without EOS; errors as `Sampling`."""
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed")
    return Sampling(**{name: getattr(args, name) for name in names})


def pair_of(args: argparse.Namespace) -> LoadedPair:
    """Loads the models that the flags name; errors as `load_pair`."""
    source = PairSource(
        shipped="" if args.target else args.pair or DEFAULT_PAIR,
        source=args.source,
        target=args.target,
        draft=args.draft,
        adapter=args.adapter,
        tokenizer=args.tokenizer,
        share_tokens=args.share_tokens,
        dtype=args.dtype,
    )
    return load_pair(source)


def skips_of(given: str | None, pair: LoadedPair) -> np.ndarray | None:
    """The skip set bool[n, 2] that `--skips` names; None without the flag.

    Raises:
      ConfigError: neither a file of a search of this target nor the right number of digits.
    """
    if given is None:
        return None
    layers = pair.target.model.num_layers
    if _DIGITS.fullmatch(given) and not pathlib.Path(given).exists():
        if len(given) != 2 * (layers - 2):
            raise ConfigError(
                f"--skips={given} has {len(given)} digits, but the target has {layers} layers: "
                f"give {2 * (layers - 2)} digits, or the file of a search"
            )
        return check_skips(from_switches(np.asarray([d == "1" for d in given])), layers)
    return SearchState.load(given, pair.target).skips
