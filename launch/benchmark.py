"""Times every method beside autoregressive decoding and Hugging Face, on the same weights.

python launch/benchmark.py                      the pair that ships, on whatever JAX runs on
python launch/benchmark.py --shape=llama2_7b    random bfloat16 weights in published shapes,
                                                for an accelerator
python launch/benchmark.py --verification       all nodes tested at once, or those reached
python launch/benchmark.py --skipping           a pass of the target with sub-layers skipped
"""

import argparse
import os
import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

import jax  # noqa: E402
import numpy as np  # noqa: E402

import rsd_jax  # noqa: E402
from rsd_jax.evaluation import benchmark  # noqa: E402
from rsd_jax.evaluation.comparison import Sampling  # noqa: E402
from rsd_jax.evaluation.measured_rows import peer_row  # noqa: E402
from rsd_jax.evaluation.peers import Peer, TransformersPeer  # noqa: E402
from rsd_jax.evaluation.phase_table import phase_table  # noqa: E402
from rsd_jax.evaluation.skipped_passes import (  # noqa: E402
    random_sets,
    skipping_rows,
    time_skipped_passes,
)
from rsd_jax.evaluation.timing import copy_bandwidth  # noqa: E402
from rsd_jax.evaluation.verification import time_verification  # noqa: E402
from rsd_jax.models.loading import random_model, shipped_pair_directory  # noqa: E402
from rsd_jax.records.files import append_row  # noqa: E402
from rsd_jax.reporting.comparison.table import comparison_table  # noqa: E402
from rsd_jax.reporting.skipping.costs import skip_cost_table, skip_costs_of  # noqa: E402
from rsd_jax.tasks.prompts import load_prompts  # noqa: E402

DRAFT_OF_SHAPE = "llama2_115m"
RANDOM_PROMPT_LENGTH = 128
VOCABULARIES = (2048, 32000)  # of the shipped pair and of Llama-2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--shape", help="a named config, e.g. llama2_7b, with random weights")
    parser.add_argument("--draft_shape", default=DRAFT_OF_SHAPE, help="the draft's, with --shape")
    parser.add_argument("--layers", type=int, help="of the target, instead of those of the shape")
    parser.add_argument("--dtype", help="of random weights; bfloat16 if not given")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--draft_length", type=int, default=4)
    parser.add_argument("--num_prompts", type=int, default=16)
    parser.add_argument("--max_new_tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--capacity", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--verification", action="store_true", help="only times verification, by both ways"
    )
    parser.add_argument(
        "--skipping", action="store_true", help="only times the target with sub-layers skipped"
    )
    parser.add_argument(
        "--context", type=int, default=128, help="committed tokens, with --skipping"
    )
    parser.add_argument("--megabytes", type=int, default=1024, help="of the bandwidth probe")
    parser.add_argument("--out", type=pathlib.Path, default=_ROOT / "runs/benchmark/rows.jsonl")
    args = parser.parse_args()
    if args.shape is None and (args.layers or args.dtype):
        parser.error("--layers and --dtype are of random weights; give a --shape")
    return args


def _models(args: argparse.Namespace):
    """(name, target, draft, prompts, directory of the weights or None)."""
    if args.shape is None:
        pair = rsd_jax.load_pair("quickstart")
        prompts = [pair.tokenizer(p.text).input_ids for p in load_prompts()[: args.num_prompts]]
        return "quickstart", pair.target, pair.draft, prompts, shipped_pair_directory("quickstart")
    dtype = args.dtype or "bfloat16"
    target = random_model(args.shape, layers=args.layers, dtype=dtype, seed=0)
    draft = random_model(args.draft_shape, dtype=dtype, seed=1)
    rng = np.random.default_rng(0)
    size = (args.num_prompts, RANDOM_PROMPT_LENGTH)
    prompts = rng.integers(0, target.model.vocab_size, size).tolist()
    name = f"random {args.shape}" + (f", {args.layers} layers" if args.layers else "")
    return name, target, draft, prompts, None


def _peers(
    transformers: TransformersPeer | None, args: argparse.Namespace, batch_size: int
) -> list[Peer]:
    """Hugging Face without and, where it can, with an assistant."""
    if transformers is None:
        return []
    lengths = dict.fromkeys([0, 2, args.draft_length] if batch_size == 1 else [0])
    return [
        transformers.peer(
            max_new_tokens=args.max_new_tokens, temperature=args.temperature, draft_length=length
        )
        for length in lengths
    ]


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def _verification(batch_sizes: list[int]) -> None:
    """Milliseconds of verification, the reached nodes / all nodes, for several trees."""
    methods = [
        rsd_jax.build_method("sd", length=4),
        rsd_jax.build_method("spectr", num_drafts=3, length=4),
        rsd_jax.build_method("rsd_c", branching=(2, 2, 1, 1)),
        rsd_jax.build_method("rsd_s", width=4, length=4),
        rsd_jax.build_method("rsd_s", width=6, length=5),
    ]
    print(
        "| milliseconds, reached / all | top_p | "
        + " | ".join(f"V = {v}, batch {b}" for v in VOCABULARIES for b in batch_sizes)
        + " |"
    )
    print("|---" * (2 + len(VOCABULARIES) * len(batch_sizes)) + "|")
    for method in methods:
        for top_p in (1.0, 0.95):
            cells = [
                time_verification(method, vocab_size=v, batch=b, top_p=top_p)
                for v in VOCABULARIES
                for b in batch_sizes
            ]
            shown = " | ".join(f"{a * 1e3:.2g} / {b * 1e3:.2g}" for a, b in cells)
            print(f"| {method.name} {method.tree} | {top_p:g} | {shown} |", flush=True)


def _skipping(name: str, target: rsd_jax.LoadedModel, args: argparse.Namespace) -> None:
    """Time of a pass against the bytes it reads, for random sets of every size, by batch size."""
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
    print(costs.label)
    print(skip_cost_table(costs).aligned())
    for row in rows:
        append_row(args.out, row)


def main() -> None:
    args = _arguments()
    if args.verification:
        return _verification(args.batch_sizes)
    name, target, draft, prompts, weights = _models(args)
    if args.skipping:
        return _skipping(name, target, args)
    task = "completion" if weights else "random"
    methods = benchmark.benchmark_methods(args.draft_length)
    sampling = Sampling(max_new_tokens=args.max_new_tokens, temperature=args.temperature)
    peer = None
    if args.peers and weights:
        peer = TransformersPeer(weights / "target", weights / "draft")
    bandwidth = copy_bandwidth(args.megabytes)
    print(f"{name} on {jax.devices()[0].device_kind}, T = {args.temperature:g}")
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
            peers=_peers(peer, args, batch_size),
        )
        rows = [m.row for m in measured]
        rows += [peer_row(run, rows[0]) for run in others]
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
        for row in rows:
            append_row(args.out, row)
    if args.capacity:
        chain = methods[2]
        ratio = benchmark.capacity_ratio(
            chain, target, draft, prompts[:1], temperature=args.temperature
        )
        print(f"\nblock time at capacity 4096 over 512, sd {chain.tree}, batch 1: {ratio:.2f}")
    print(f"\nrows: {args.out}")


if __name__ == "__main__":
    try:
        main()
    except (rsd_jax.ConfigError, rsd_jax.CheckpointError) as error:
        sys.exit(f"error: {error}")
