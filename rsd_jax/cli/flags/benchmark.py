"""`rsd benchmark`: its flags."""

import argparse
import pathlib

from rsd_jax.cli.flags.command import Command
from rsd_jax.cli.flags.measuring import add_methods, add_prompts, check_prompts
from rsd_jax.errors import ConfigError, positive_integer

DRAFT_OF_SHAPE = "llama2_115m"
VOCABULARIES = [2048, 49152]  # of the shipped pair and of SmolLM2


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pair", help="name of a pair, if not that which ships, e.g. smollm2")
    parser.add_argument("--source", default="", help="with --pair=smollm2: package or hub")
    parser.add_argument("--target", default="", help="target of a pair of your own")
    parser.add_argument("--draft", default="", help="its draft; also another for --pair=smollm2")
    parser.add_argument("--tokenizer", default="", help="its tokenizer, if --target has none")
    add_prompts(parser)
    add_methods(parser, "every method at --draft_length")
    parser.add_argument("--shape", help="shape of a target with random weights, e.g. llama2_7b")
    parser.add_argument("--draft_shape", default=DRAFT_OF_SHAPE, help="shape of the random draft")
    parser.add_argument("--layers", type=int, help="layers of the target, if not those of --shape")
    parser.add_argument("--dtype", help="dtype of random weights; bfloat16 if not given")
    parser.add_argument(
        "--batch_sizes", type=int, nargs="+", default=[1, 8], help="prompts decoded together"
    )
    parser.add_argument("--draft_length", type=int, default=4, help="draft length of every tree")
    parser.add_argument("--max_new_tokens", type=int, default=128, help="limit per prompt")
    parser.add_argument("--temperature", type=float, default=0.3, help="0 is greedy")
    parser.add_argument("--top_p", type=float, default=1.0, help="1 is no filter (default: 1)")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of every measurement")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="times Hugging Face"
    )
    parser.add_argument(
        "--llama_cpp",
        type=pathlib.Path,
        help="GGUF file of the target, which llama.cpp decodes at batch size 1 in float32",
    )
    parser.add_argument(
        "--capacity",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="times a block at two capacities of the cache",
    )
    parser.add_argument(
        "--verification", action="store_true", help="times only verification, by every verifier"
    )
    parser.add_argument(
        "--vocab_sizes", type=int, nargs="+", default=VOCABULARIES, help="with --verification"
    )
    parser.add_argument(
        "--passes",
        action="store_true",
        help="times only passes of the target over a few tokens, beside one large product",
    )
    parser.add_argument(
        "--skipping", action="store_true", help="times only the target with skipped sub-layers"
    )
    parser.add_argument(
        "--context",
        type=int,
        default=128,
        help="committed tokens, with --skipping and --passes",
    )
    parser.add_argument(
        "--refilling",
        action="store_true",
        help="times only rows that take the next prompt when they are done, against whole batches; "
        "of the --num_prompts, a quarter gets --max_new_tokens, the others a quarter of that",
    )
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the bandwidth probe")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/benchmark/rows.jsonl"),
        help="file that rows are appended to",
    )


def _check(args: argparse.Namespace) -> None:
    positive_integer("--repeats", args.repeats)
    positive_integer("--context", args.context)
    if args.shape is None and (args.layers or args.dtype):
        raise ConfigError("--layers and --dtype are for random weights; give a --shape")
    if sum(map(bool, (args.shape, args.pair, args.target))) > 1:
        raise ConfigError("--shape, --pair and --target exclude each other; give one of them")
    if args.target and not args.draft:
        raise ConfigError("the methods need a draft; give --draft")
    if args.shape and (args.prompts or args.draft or args.source):
        raise ConfigError("--shape has random weights and prompts; leave out other flags of pairs")
    if args.shape and args.llama_cpp:
        raise ConfigError("--llama_cpp needs trained weights; leave out --shape")
    if args.llama_cpp and 1 not in args.batch_sizes:
        raise ConfigError("--llama_cpp decodes prompts one by one; add 1 to --batch_sizes")
    if sum((args.verification, args.passes, args.skipping, args.refilling)) > 1:
        raise ConfigError(
            "--verification, --passes, --skipping and --refilling exclude each other; give one"
        )
    if args.refilling and min(args.batch_sizes) >= args.num_prompts:
        raise ConfigError("--refilling needs more --num_prompts than rows of --batch_sizes")
    if args.tokenizer and not args.target:
        raise ConfigError("--tokenizer is for a pair of your own; give --target")
    check_prompts(args)


COMMAND = Command(
    summary="Times every method, autoregressive decoding and Hugging Face on the same weights.",
    about="""\
A pair of your own is two directories, GGUF files or names on the Hub. Random bfloat16 weights
in published shapes (--shape) are for an accelerator. Rows are appended to the file --out.
""",
    examples=r"""
  rsd benchmark --no-peers --num_prompts 4 --batch_sizes 1
  rsd benchmark --target DIR --draft DIR --prompts prompts.jsonl --template chat
  rsd benchmark --pair smollm2 --source package
  rsd benchmark --target MODEL.gguf --draft DIR --llama_cpp MODEL.gguf --batch_sizes 1
  rsd benchmark --shape llama2_7b
  rsd benchmark --verification
  rsd benchmark --skipping
  rsd benchmark --passes --pair smollm2 --source package --batch_sizes 1
  rsd benchmark --refilling --num_prompts 64 --batch_sizes 8 --repeats 3 --methods sd:4 rsd_s:4x4
""",
    add_flags=_add_flags,
    check=_check,
)
