"""`rsd check`: what this machine can do, and whether what it decodes is exact."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence

import jax
from tqdm import tqdm

from rsd_jax.core.types import LoadedModel
from rsd_jax.drafters import ConstantBranching, StochasticBeam
from rsd_jax.engine.methods import Method, method_of_tree
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.comparison import Measured, compare, steps
from rsd_jax.evaluation.divergence import first_divergences, margin
from rsd_jax.evaluation.prompts import token_ids
from rsd_jax.models.pairs import load_pair
from rsd_jax.records.hardware import Hardware, current_versions
from rsd_jax.tasks.prompts import load_prompts
from rsd_jax.testing import assert_lossless, random_instances
from rsd_jax.verifiers import VERIFIERS

PAIR = "quickstart"
METHODS = (("ar", "-"), ("rsd_c", "2-2"), ("rsd_s", "3x2"))
NUM_PROMPTS, MAX_NEW_TOKENS = 4, 64
TIE = 1e-4
"""Largest margin of two float32 logits that rounding explains: passes of different widths round
differently, and a greedy token may differ where two tokens are that close."""

# Tree rules, and the verifiers whose output laws are enumerated on the rule's trees.
LAWS = (
    (StochasticBeam(2, 2), "recursive_rejection"),
    (ConstantBranching((2, 1)), "coupling"),
)
NUM_LAWS = 14
ERROR = 1e-6
"""Largest error of an enumerated probability, see `assert_lossless`."""

_GIB = 2**30


def run(args: argparse.Namespace) -> None:
    """Prints the report; exits with a message if a check failed."""
    begin = time.perf_counter()
    _print_machine()
    problems = [*_tokens(), *_laws()]
    seconds = time.perf_counter() - begin
    print(f"\n{seconds:.0f} s in all; the token rates are without compilation")
    if problems:
        sys.exit("\n".join(problems))
    print("all checks passed")


def _print_machine() -> None:
    versions = current_versions("transformers", "safetensors", "tokenizers")
    hardware = Hardware.current()
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"processor: {hardware.cpu}, {hardware.cores} cores{_memory()}")
    for device in jax.devices():
        print(
            f"device {device.id}: {device.platform}, {device.device_kind}{_device_memory(device)}"
        )


def _memory() -> str:
    """The memory of the machine, where the system says how much there is."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return ""
    return f", {size / _GIB:.1f} GiB of memory"


def _device_memory(device: jax.Device) -> str:
    """The memory of an accelerator; JAX says nothing of a CPU."""
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return "" if limit is None else f", {limit / _GIB:.1f} GiB of memory for JAX"


def _tokens() -> Iterator[str]:
    """Decodes greedily with each method, prints rates, and yields a line per failed check."""
    pair = load_pair(PAIR)
    prompts = token_ids(load_prompts()[:NUM_PROMPTS], pair.tokenizer)
    methods = [method_of_tree(name, tree) for name, tree in METHODS]
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS, temperature=0.0, eos_ids=pair.eos_ids)
    print(
        f"\ngreedy tokens of the pair {PAIR!r}, float32, {len(prompts)} prompts of "
        f"{min(map(len, prompts))} to {max(map(len, prompts))} tokens, {MAX_NEW_TOKENS} new tokens:"
    )
    with tqdm(total=steps(methods, prompts), leave=False, disable=None) as bar:

        def progress(done: str) -> None:
            bar.set_postfix_str(done, refresh=False)
            bar.update()

        measured, _ = compare(methods, pair.target, pair.draft, prompts, sampling, progress)
    expected = measured[0]
    for one in measured:
        found, failed = _compared(one, expected, prompts, pair.target)
        _print_line(_words(one.method), found, _rate(one))
        if failed:
            yield f"check failed: the greedy tokens of {_words(one.method)} are not those of ar"


def _words(method: Method) -> str:
    return f"{method.name} {method.tree}".removesuffix(" -")


def _rate(measured: Measured) -> str:
    tokens = sum(map(len, measured.tokens))
    return (
        f"{tokens / measured.seconds.sum():7.1f} tokens/s, "
        f"{measured.stats.block_efficiency:.2f} tokens per target call"
    )


def _compared(
    measured: Measured, expected: Measured, prompts: Sequence[Sequence[int]], target: LoadedModel
) -> tuple[str, bool]:
    """How the tokens of a method compare with those of `expected`; whether that is a failure."""
    if measured is expected:
        return "", False
    margins = [
        margin(target, [*prompts[one.row], *expected.tokens[one.row][: one.index]])
        for one in first_divergences(measured.tokens, expected.tokens)
    ]
    if not margins:
        return "same tokens", False
    if max(margins) <= TIE:
        return f"{len(margins)} rows differ, at ties of the logits", False
    return f"FAILED: {len(margins)} rows differ", True


def _laws() -> Iterator[str]:
    """Enumerates the output laws of verifiers; yields a line per failed check."""
    print(f"\noutput laws of verifiers, enumerated on {NUM_LAWS} pairs of target and draft laws:")
    instances = random_instances(vocab_size=3, depth=2, count=NUM_LAWS)
    for rule, verifier in LAWS:
        what = f"{rule.method} {rule.words}, {verifier}"
        try:
            error = assert_lossless(VERIFIERS[verifier](), rule, instances, atol=ERROR)
        except AssertionError as failure:
            _print_line(what, "FAILED", "")
            yield f"check failed: {failure}"
        else:
            _print_line(what, "the target's law", f"largest error {error:.0e}")


def _print_line(what: str, found: str, more: str) -> None:
    print(f"  {what:34}{found:18}{more}".rstrip(), flush=True)
