"""Flags of commands that measure methods: which methods, and on which prompts."""

import argparse
import pathlib

from rsd_jax.errors import ConfigError


def add_methods(parser: argparse._ActionsContainer, default: str) -> None:
    """Which methods; `default` says in words which ones if the flag is not given."""
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD:TREE[:VERIFIER]",
        help=f"such as rsd_s:4x4:coupling; ar is always among them (default: {default})",
    )


def add_prompts(parser: argparse._ActionsContainer) -> None:
    """On which prompts; see `cli.measured.prompts_of`."""
    parser.add_argument(
        "--prompts", type=pathlib.Path, help="JSONL of prompts, if not those of the pair that ships"
    )
    parser.add_argument(
        "--template", help="with --prompts: plain (the default), or chat for the chat template"
    )
    parser.add_argument("--num_prompts", type=int, default=16, help="prompts to decode")


def check_prompts(args: argparse.Namespace) -> None:
    """Raises `ConfigError` for a template without prompts."""
    if args.template and not args.prompts:
        raise ConfigError("--template is for prompts of your own; give --prompts")
