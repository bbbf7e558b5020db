"""Flags of commands that decode: models, method, sampling, what is shown."""

import argparse

from rsd_jax.cli import choices
from rsd_jax.errors import ConfigError

DEFAULT_PAIR = "quickstart"


def add_models(parser: argparse.ArgumentParser) -> None:
    """Which target, draft and tokenizer."""
    group = parser.add_argument_group("models")
    group.add_argument(
        "--pair", choices=choices.PAIRS, help="a pair by name, if there is no --target"
    )
    group.add_argument(
        "--source", choices=choices.SOURCES, default="", help="where --pair=smollm2 is"
    )
    group.add_argument(
        "--target",
        default="",
        metavar="MODEL",
        help="a target of your own: a directory, a GGUF file, or a name on the Hugging Face Hub",
    )
    group.add_argument(
        "--draft",
        default="",
        metavar="MODEL",
        help="its draft; also another one for --pair=smollm2",
    )
    group.add_argument("--adapter", default="", metavar="DIR", help="low-rank adapter of --target")
    group.add_argument(
        "--tokenizer", default="", metavar="MODEL", help="the tokenizer, if --target has none"
    )
    group.add_argument(
        "--share_tokens", action="store_true", help="the draft has another tokenizer, its own"
    )
    group.add_argument(
        "--dtype",
        default="auto",
        help="of the weights: float32, bfloat16, or auto, which is bfloat16 on accelerators",
    )


def add_method(parser: argparse.ArgumentParser) -> None:
    """Which method, tree, verifier and skip set."""
    trees = ", ".join(f"{name} {tree}" for name, tree in choices.TREES.items())
    others = [f"{' '.join(own)} for {pair}" for pair, own in choices.DEFAULT_OF_PAIR.items()]
    default = ", ".join([" ".join(choices.DEFAULT), *others])
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method",
        choices=(*choices.METHODS, choices.AUTO),
        metavar="NAME",
        help=f"{', '.join(choices.METHODS)}; if not given: {default}, and ar if there is no draft; "
        "or auto, the fastest of --calibration",
    )
    group.add_argument(
        "--calibration", metavar="FILE", help="with --method auto: a file of rsd calibrate"
    )
    group.add_argument(
        "--tree",
        help=f"the drafted tree in words; if not given: {trees}, the same for self_...; +8 behind "
        "a tree adds up to eight tokens that are looked up in the text",
    )
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method in place of --tree, as often as needed; see build_method",
    )
    group.add_argument(
        "--verifier",
        choices=choices.VERIFIERS,
        metavar="NAME",
        help=f"in place of the method's own: {', '.join(choices.VERIFIERS)}",
    )
    group.add_argument(
        "--draft_temperature", type=float, metavar="T", help="of the draft, if not the target's"
    )
    group.add_argument(
        "--draft_top_k", type=int, metavar="K", help="of the draft, if not the target's"
    )
    group.add_argument(
        "--skips",
        metavar="FILE",
        help="for swift and self_...: the sub-layers to skip while drafting. The file of a search; "
        "or a digit for attention and MLP of every layer but the first and the last, 1 to skip it",
    )


def add_sampling(parser: argparse.ArgumentParser, *, max_new_tokens: int) -> None:
    """How tokens are sampled; `max_new_tokens` is the default."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--max_new_tokens", type=int, metavar="N", default=max_new_tokens, help="limit"
    )
    group.add_argument("--temperature", type=float, metavar="T", default=0.3, help="0 is greedy")
    group.add_argument("--top_k", type=int, metavar="K", help="keeps the k most likely tokens")
    group.add_argument("--top_p", type=float, metavar="P", default=1.0, help="1 keeps every token")
    group.add_argument("--seed", type=int, metavar="N", default=0, help="of the draws")


def add_show(parser: argparse.ArgumentParser) -> None:
    """How the text is shown."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--show",
        choices=("text", "accepted"),
        default="text",
        help="accepted: colours apart what was drafted and accepted and what the target emitted",
    )
    group.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="auto: in a terminal"
    )
    group.add_argument("--quiet", action="store_true", help="no line of counts at the end")


def check_models(args: argparse.Namespace) -> None:
    """Raises `ConfigError` for flags of models that do not go together."""
    if args.pair and args.target:
        raise ConfigError("--pair and --target exclude each other; give one of them")
    for name in ("adapter", "tokenizer"):
        if getattr(args, name) and not args.target:
            raise ConfigError(f"--{name} is for a target of your own; give --target")
    if args.source and args.pair != "smollm2":
        raise ConfigError("--source says where the pair smollm2 is; give --pair=smollm2")
    if args.draft and not args.target and args.pair != "smollm2":
        raise ConfigError(
            "--draft is for a target of your own; give --target, or --pair=smollm2 --source=..."
        )
    if args.share_tokens and not args.draft:
        raise ConfigError("--share_tokens is for a draft with its own tokenizer; give --draft")


def check_method(args: argparse.Namespace) -> None:
    """Raises `ConfigError` for flags of the method that do not go together."""
    if args.tree and args.option:
        raise ConfigError("--tree and --option exclude each other; give all options by --option")
    for name in ("tree", "option", "verifier", "draft_temperature", "draft_top_k", "skips"):
        if getattr(args, name) not in (None, []) and args.method in (None, choices.AUTO):
            raise ConfigError(f"--{name} belongs to a method; give --method, and not auto")
    if (args.method == choices.AUTO) != bool(args.calibration):
        raise ConfigError("--method auto needs --calibration FILE, and no other method has one")
