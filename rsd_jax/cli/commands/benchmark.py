"""Times every method, autoregressive decoding and Hugging Face on the same weights.

python launch/benchmark.py                      the pair that ships, on JAX's default device
python launch/benchmark.py --target=DIR --draft=DIR --prompts=FILE
                                                a pair of your own: directories, GGUF files or names
                                                on the Hub; or --pair=smollm2 --source=package
python launch/benchmark.py --shape=llama2_7b    random bfloat16 weights in published shapes,
                                                for an accelerator
python launch/benchmark.py --verification       only verification, by every verifier
python launch/benchmark.py --skipping           only passes of the target with skipped sub-layers
"""

import argparse
import itertools
import pathlib
import sys

from launcher import ROOT, Parser, run

import jax
import numpy as np

import rsd_jax
from launch.pairs import load_pair
from rsd_jax.core.warp import make_warp
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation import benchmark
from rsd_jax.evaluation.device_rates import copy_bandwidth
from rsd_jax.evaluation.measured_rows import peer_row
from rsd_jax.evaluation.peers import Peer, TransformersPeer
from rsd_jax.evaluation.phase_table import phase_table
from rsd_jax.evaluation.prompts import token_ids
from rsd_jax.evaluation.skipped_passes import (
    random_sets,
    skipping_rows,
    time_skipped_passes,
)
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.evaluation.verification import time_verification, ways_to_verify
from rsd_jax.models.loading import random_model
from rsd_jax.records.files import append_row
from rsd_jax.reporting.comparison.table import comparison_table
from rsd_jax.reporting.skipping.costs import skip_cost_table, skip_costs_of
from rsd_jax.tasks.jsonl import jsonl_task
from rsd_jax.tasks.prompts import load_prompts

DRAFT_OF_SHAPE = "llama2_115m"
RANDOM_PROMPT_LENGTH = 128
VOCABULARIES = [2048, 49152]  # of the shipped pair and of SmolLM2


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--pair", help="name of a pair, if not that which ships, e.g. smollm2")
    parser.add_argument("--source", default="", help="with --pair=smollm2: package or hub")
    parser.add_argument("--target", default="", help="target of a pair of your own")
    parser.add_argument("--draft", default="", help="its draft; also with --pair=smollm2")
    parser.add_argument("--tokenizer", default="", help="its tokenizer, if --target has none")
    parser.add_argument(
        "--prompts", type=pathlib.Path, help="JSONL of prompts, if not those of the pair that ships"
    )
    parser.add_argument(
        "--template", help="with --prompts: plain (the default), or chat for the chat template"
    )
    parser.add_argument("--shape", help="shape of a target with random weights, e.g. llama2_7b")
    parser.add_argument("--draft_shape", default=DRAFT_OF_SHAPE, help="shape of the random draft")
    parser.add_argument("--layers", type=int, help="layers of the target, if not those of --shape")
    parser.add_argument("--dtype", help="dtype of random weights; bfloat16 if not given")
    parser.add_argument(
        "--batch_sizes", type=int, nargs="+", default=[1, 8], help="prompts decoded together"
    )
    parser.add_argument("--draft_length", type=int, default=4, help="draft length of every tree")
    parser.add_argument("--num_prompts", type=int, default=16, help="prompts to decode")
    parser.add_argument("--max_new_tokens", type=int, default=128, help="limit per prompt")
    parser.add_argument("--temperature", type=float, default=0.3, help="0 is greedy")
    parser.add_argument("--top_p", type=float, default=1.0, help="1 is no filter (default: 1)")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of every measurement")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="times Hugging Face"
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
        "--skipping", action="store_true", help="times only the target with skipped sub-layers"
    )
    parser.add_argument(
        "--context", type=int, default=128, help="committed tokens, with --skipping"
    )
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the bandwidth probe")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=ROOT / "runs/benchmark/rows.jsonl",
        help="file that rows are appended to",
    )
    args = parser.read()
    if args.shape is None and (args.layers or args.dtype):
        parser.error("--layers and --dtype are for random weights; give a --shape")
    if sum(map(bool, (args.shape, args.pair, args.target))) > 1:
        parser.error("--shape, --pair and --target exclude each other; give one of them")
    if args.target and not args.draft:
        parser.error("the methods need a draft; give --draft")
    if args.shape and (args.prompts or args.draft or args.source):
        parser.error("--shape has random weights and prompts; leave out other flags of pairs")
    if args.tokenizer and not args.target:
        parser.error("--tokenizer is for a pair of your own; give --target")
    if args.template and not args.prompts:
        parser.error("--template is for prompts of your own; give --prompts")
    return args


def _models(args: argparse.Namespace):
    """(name, target, draft, prompts)."""
    if args.shape is None:
        return _pair(args)
    dtype = args.dtype or "bfloat16"
    target = random_model(args.shape, layers=args.layers, dtype=dtype, seed=0)
    draft = random_model(args.draft_shape, dtype=dtype, seed=1)
    rng = np.random.default_rng(0)
    size = (args.num_prompts, RANDOM_PROMPT_LENGTH)
    prompts = rng.integers(0, target.model.vocab_size, size).tolist()
    name = f"random {args.shape}" + (f", {args.layers} layers" if args.layers else "")
    return name, target, draft, prompts


def _pair(args: argparse.Namespace):
    """As `_models`, for a pair with trained weights."""
    named = args.pair or ("" if args.target else "quickstart")
    source = PairSource(
        shipped=named,
        source=args.source,
        target=args.target,
        draft=args.draft,
        tokenizer=args.tokenizer,
    )
    chosen = load_prompts()[: args.num_prompts]
    if args.prompts:
        chosen = jsonl_task(path=args.prompts, template=args.template).first(args.num_prompts)
    pair = load_pair(source)
    if pair.draft is None:
        raise rsd_jax.ConfigError(f"the pair {named!r} has no draft; give one with --draft")
    prompts = token_ids(chosen, pair.tokenizer)
    return named or pathlib.Path(args.target).name, pair.target, pair.draft, prompts


def _peers(
    transformers: TransformersPeer | None, sampling: Sampling, length: int, batch_size: int
) -> list[Peer]:
    """Hugging Face without and, at batch size 1 and with a draft, with an assistant."""
    if transformers is None:
        return []
    assisted = batch_size == 1 and transformers.draft is not None
    lengths = dict.fromkeys([0, 2, length] if assisted else [0])
    return [transformers.peer(sampling, draft_length=each) for each in lengths]


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def _verification(batch_sizes: list[int], vocabularies: list[int]) -> None:
    """Prints milliseconds of verification of several trees, a column per verifier."""
    methods = [
        rsd_jax.build_method("sd", length=4),
        rsd_jax.build_method("spectr", num_drafts=3, length=4),
        rsd_jax.build_method("rsd_c", branching=(2, 2, 1, 1)),
        rsd_jax.build_method("rsd_s", width=4, length=4),
        rsd_jax.build_method("rsd_s", width=6, length=5),
    ]
    columns = list(dict.fromkeys(name for m in methods for name in ways_to_verify(m)))
    print(f"| tree | top_p | V | batch | {' | '.join(columns)} |")
    print("|---" * (4 + len(columns)) + "|")
    for method, top_p, vocab, batch in itertools.product(
        methods, (1.0, 0.95), vocabularies, batch_sizes
    ):
        warp = make_warp(0.5, None, top_p)
        seconds = time_verification(method, warp, vocab_size=vocab, batch=batch)
        shown = [f"{seconds[name] * 1e3:.2g}" if name in seconds else "-" for name in columns]
        cells = [f"{method.name} {method.tree}", f"{top_p:g}", str(vocab), str(batch), *shown]
        print(f"| {' | '.join(cells)} |", flush=True)


def _skipping(name: str, target: rsd_jax.LoadedModel, args: argparse.Namespace) -> None:
    """Times passes that skip random sets of every size, for each batch size; appends the rows."""
    for batch in args.batch_sizes:
        _skipping_at(name, target, args, batch)
    print(f"\nrows: {args.out}")


def _skipping_at(
    name: str, target: rsd_jax.LoadedModel, args: argparse.Namespace, batch: int
) -> None:
    context = args.context
    sets = random_sets(target.model.num_layers)
    passes = time_skipped_passes(target, sets, batch=batch, context=context, repeats=args.repeats)
    rows = skipping_rows(passes, sets, target, pair=name, batch=batch, context=context)
    (costs,) = skip_costs_of(rows)
    for row in rows:
        append_row(args.out, row)
    print(costs.label)
    print(skip_cost_table(costs).aligned())


def main() -> None:
    args = _arguments()
    if args.verification:
        return _verification(args.batch_sizes, args.vocab_sizes)
    args.out.parent.mkdir(parents=True, exist_ok=True)  # an error here comes before measuring
    name, target, draft, prompts = _models(args)
    if args.skipping:
        return _skipping(name, target, args)
    task = "random" if args.shape else args.prompts.stem if args.prompts else "completion"
    methods = benchmark.benchmark_methods(args.draft_length)
    sampling = Sampling(
        max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p
    )
    peer = None
    if args.peers and not args.shape:
        peer = TransformersPeer.of_models(target, draft)
    bandwidth = copy_bandwidth(args.megabytes)
    filters = "" if args.top_p == 1 else f", top-p {args.top_p:g}"
    print(f"{name} on {jax.devices()[0].device_kind}, T = {args.temperature:g}{filters}")
    print(f"copy bandwidth {bandwidth / 1e9:.1f} GB/s (read + write of {args.megabytes} MiB)")
    for batch_size in args.batch_sizes:
        measured, others = benchmark.run_benchmark(
            methods,
            target,
            draft,
            prompts,
            sampling,
            batch_size=batch_size,
            pair=name,
            task=task,
            repeats=args.repeats,
            report=_say,
            peers=_peers(peer, sampling, args.draft_length, batch_size),
        )
        rows = [m.row for m in measured]
        rows += [peer_row(peer_run, rows[0]) for peer_run in others]
        for row in rows:
            append_row(args.out, row)
        print(f"\nbatch {batch_size}: whole calls, prefill included, compilation not")
        print(comparison_table(rows))
        print(
            f"\nbatch {batch_size}: milliseconds of one block at ~{rows[0].context_length} tokens"
        )
        print(phase_table([(m.row, m.times) for m in measured]))
        context = rows[0].context_length
        share = benchmark.bandwidth_fraction(
            target, measured[0].times, batch=batch_size, context=context, bandwidth=bandwidth
        )
        print(f"\nbare AR step: {share:.0%} of the copy bandwidth (bytes floor / time)")
    if args.capacity:
        chain = methods[2]
        ratio = benchmark.capacity_ratio(chain, target, draft, prompts[:1], sampling)
        print(f"\nblock time at capacity 4096 over 512, sd {chain.tree}, batch 1: {ratio:.2f}")
    print(f"\nrows: {args.out}")


if __name__ == "__main__":
    run(main)
