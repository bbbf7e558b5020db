"""`rsd benchmark`: rates and times of every method, beside Hugging Face on the same weights."""

import argparse
import itertools
import pathlib
import sys
from typing import Any

import jax
import numpy as np

from rsd_jax.cli.interrupts import keeping
from rsd_jax.cli.measured import methods_of, prompts_of
from rsd_jax.cli.pairs import load_pair
from rsd_jax.cli.progress import Progress
from rsd_jax.core.types import LoadedModel, sizes_of
from rsd_jax.core.warp import make_warp
from rsd_jax.engine.methods import Method, build_method
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation import benchmark
from rsd_jax.evaluation.comparison import steps
from rsd_jax.evaluation.device_rates import copy_bandwidth, vector_product_seconds
from rsd_jax.evaluation.llama_cpp_peers import llama_cpp_peers
from rsd_jax.evaluation.measured_rows import peer_row
from rsd_jax.evaluation.passes import pass_medians
from rsd_jax.evaluation.peers import Peer, TransformersPeer
from rsd_jax.evaluation.phase_table import phase_table
from rsd_jax.evaluation.refilling import mixed_limits, refilling_table, time_refilling
from rsd_jax.evaluation.skipped_passes import (
    random_sets,
    skipping_rows,
    time_skipped_passes,
)
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.evaluation.verification import time_verification, ways_to_verify
from rsd_jax.models.loading import random_model
from rsd_jax.records.files import append_row, check_writable
from rsd_jax.reporting.comparison.table import comparison_table
from rsd_jax.reporting.skipping.costs import skip_cost_table, skip_costs_of

RANDOM_PROMPT_LENGTH = 128
PASS_NODES = (1, 2, 3, 5, 9, 17)


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
    pair = load_pair(source)
    if pair.draft is None:
        raise ConfigError(f"the pair {named!r} has no draft; give one with --draft")
    prompts = prompts_of(args, pair.tokenizer)
    return named or pathlib.Path(args.target).name, pair.target, pair.draft, prompts


def _methods(args: argparse.Namespace) -> list[Method]:
    if args.methods:
        return methods_of(args.methods)
    return benchmark.benchmark_methods(args.draft_length)


def _peers(args: argparse.Namespace, models: Any, sampling: Sampling) -> dict[int, list[Peer]]:
    """By batch size: each engine without and, at batch size 1, with an assistant or prompt lookup.

    `models` are target, draft and prompts.
    """
    (target, draft, prompts), length = models, args.draft_length
    peers: dict[int, list[Peer]] = {batch: [] for batch in args.batch_sizes}
    if args.peers and not args.shape:
        transformers = TransformersPeer.of_models(target, draft)
        for batch, found in peers.items():
            assisted = batch == 1 and transformers.draft is not None
            lengths = dict.fromkeys([0, 2, length] if assisted else [0])
            found += [transformers.peer(sampling, draft_length=each) for each in lengths]
    if args.llama_cpp:
        capacity = max(map(len, prompts)) + sampling.max_new_tokens + length
        peers[1] += llama_cpp_peers(
            args.llama_cpp, target, sampling, capacity=capacity, lookups=(0, length)
        )
    return peers


def _verification(batch_sizes: list[int], vocabularies: list[int]) -> None:
    """Prints milliseconds of verification of several trees, a column per verifier."""
    methods = [
        build_method("sd", length=4),
        build_method("spectr", num_drafts=3, length=4),
        build_method("rsd_c", branching=(2, 2, 1, 1)),
        build_method("rsd_s", width=4, length=4),
        build_method("rsd_s", width=6, length=5),
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


def _passes(name: str, target: LoadedModel, args: argparse.Namespace) -> None:
    """Prints the times of passes of the target over a few tokens, beside one large product."""
    numbers = sizes_of(target.model).num_parameters_read
    product = vector_product_seconds(numbers, target.model.dtype)
    print(f"{name}: a vector times one matrix of the size of all weights: {product * 1e3:.1f} ms")
    for batch in args.batch_sizes:
        contestants = [(target, nodes) for nodes in PASS_NODES]
        medians = pass_medians(contestants, batch=batch, context=args.context, repeats=args.repeats)
        print(f"\nbatch {batch}, {args.context} committed tokens\n")
        print("| tokens of each row | ms | of one token | of the product |\n|---:|---:|---:|---:|")
        for nodes, seconds in zip(PASS_NODES, medians, strict=True):
            one, floor = seconds / medians[0], seconds / product
            print(f"| {nodes} | {seconds * 1e3:.1f} | {one:.2f} | {floor:.2f} |", flush=True)


def _skipping(name: str, target: LoadedModel, args: argparse.Namespace) -> None:
    """Times passes that skip random sets of every size, for each batch size; appends the rows."""
    for batch in args.batch_sizes:
        _skipping_at(name, target, args, batch)
    print(f"\nrows: {args.out}")


def _skipping_at(name: str, target: LoadedModel, args: argparse.Namespace, batch: int) -> None:
    context = args.context
    sets = random_sets(target.model.num_layers)
    passes = time_skipped_passes(target, sets, batch=batch, context=context, repeats=args.repeats)
    rows = skipping_rows(passes, sets, target, pair=name, batch=batch, context=context)
    (costs,) = skip_costs_of(rows)
    try:
        for row in rows:
            append_row(args.out, row)
    finally:  # shown even if the disk is full
        print(costs.label)
        print(skip_cost_table(costs).aligned())


def _refilling(name: str, models: Any, sampling: Sampling, args: argparse.Namespace) -> None:
    """Prints the rates of every method with rows refilled and in whole batches.

    `models` are target, draft and prompts.
    """
    target, draft, chosen = models
    # Few prompts are repeated: a prompt's draws depend on its index.
    prompts = list(itertools.islice(itertools.cycle(chosen), args.num_prompts))
    short = max(1, args.max_new_tokens // 4)
    limits = mixed_limits(len(prompts), short=short, long=args.max_new_tokens)
    for batch in args.batch_sizes:
        measured = time_refilling(
            _methods(args),
            target,
            draft,
            prompts,
            sampling,
            limits,
            batch_size=batch,
            repeats=args.repeats,
        )
        print(
            f"\n{name}: {len(prompts)} prompts, {short} or {args.max_new_tokens} new tokens, "
            f"{batch} rows, T = {args.temperature:g}"
        )
        print(refilling_table(measured).aligned(), flush=True)


def run(args: argparse.Namespace) -> None:
    """Measures, appends the rows to the file `args.out`, and prints tables."""
    if args.verification:
        return _verification(args.batch_sizes, args.vocab_sizes)
    check_writable(args.out)  # an error here comes before measuring
    name, target, draft, prompts = _models(args)
    if args.passes:
        return _passes(name, target, args)
    if args.skipping:
        return _skipping(name, target, args)
    sampling = Sampling(
        max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p
    )
    if args.refilling:
        return _refilling(name, (target, draft, prompts), sampling, args)
    peers = _peers(args, (target, draft, prompts), sampling)
    bandwidth = copy_bandwidth(args.megabytes)
    filters = "" if args.top_p == 1 else f", top-p {args.top_p:g}"
    print(f"{name} on {jax.devices()[0].device_kind}, T = {args.temperature:g}{filters}")
    print(f"copy bandwidth {bandwidth / 1e9:.1f} GB/s (read + write of {args.megabytes} MiB)")
    done: list[int] = []

    def kept() -> str:
        return f"the rows of {len(done)} of {len(args.batch_sizes)} batch sizes are in {args.out}"

    with keeping(kept):
        for batch_size in args.batch_sizes:
            models = (name, target, draft, prompts)
            measured = _measured(args, models, sampling, peers[batch_size], batch_size)
            done.append(batch_size)
            context = measured[0].row.context_length
            assert context is not None
            share = benchmark.bandwidth_fraction(
                target, measured[0].times, batch=batch_size, context=context, bandwidth=bandwidth
            )
            print(f"\nbare AR step: {share:.0%} of the copy bandwidth (bytes floor / time)")
        if args.capacity:
            chain = benchmark.benchmark_methods(args.draft_length)[2]
            ratio = benchmark.capacity_ratio(chain, target, draft, prompts[:1], sampling)
            print(f"\nblock time at capacity 4096 over 512, sd {chain.tree}, batch 1: {ratio:.2f}")
    print(f"\nrows: {args.out}")


def _measured(
    args: argparse.Namespace, models: Any, sampling: Sampling, peers: list[Peer], batch_size: int
) -> list[benchmark.Measurement]:
    """Measures every method at one batch size, appends the rows and prints the tables.

    `models` are those of `_models`.
    """
    name, target, draft, prompts = models
    methods = _methods(args)
    batches = -(-len(prompts) // batch_size)
    total = steps(methods, prompts, batch_size) + len(peers) * batches + 1
    with Progress(total, file=sys.stderr, every=1) as progress:
        measured, others = benchmark.run_benchmark(
            methods,
            target,
            draft,
            prompts,
            sampling,
            batch_size=batch_size,
            pair=name,
            task="random" if args.shape else args.prompts.stem if args.prompts else "completion",
            repeats=args.repeats,
            report=progress,
            peers=peers,
        )
    rows = [m.row for m in measured]
    rows += [peer_row(peer_run, rows[0]) for peer_run in others]
    try:
        for row in rows:
            append_row(args.out, row)
    finally:  # shown even if the disk is full
        context = rows[0].context_length
        print(f"\nbatch {batch_size}: whole calls, prefill included, compilation not")
        print(comparison_table(rows))
        print(f"\nbatch {batch_size}: milliseconds of one block at ~{context} tokens")
        print(phase_table([(m.row, m.times) for m in measured]))
    return measured
