"""Computes what methods are expected to produce, and times their blocks."""

import collections
import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax
import numpy as np

from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import Method
from rsd_jax.engine.phases import DecodeOptions
from rsd_jax.engine.request import Request, RequestOptions
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.evaluation.observed import observed_run
from rsd_jax.evaluation.timing import TimedMethod, endless_request, take_turns
from rsd_jax.planning.calibration import Calibration, Conditions, Expected, identity
from rsd_jax.planning.sub_trees import SubTree, family, widest
from rsd_jax.records.json_objects import json_sha256
from rsd_jax.verifiers import VERIFIERS
from rsd_jax.verifiers.base import TargetLaws, Verifier
from rsd_jax.verifiers.expected import expected_tokens

_BLOCKS = 8  # of a timed call


@dataclasses.dataclass(frozen=True)
class _TokensOfPart:
    """The `Measure` of a verifier on a part of the trees of a run."""

    verifier: Verifier
    part: SubTree

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def __call__(self, tree: DraftTree, target: TargetLaws, options: DecodeOptions) -> jax.Array:
        narrow, laws = self.part.tree(tree), self.part.target(target)
        return expected_tokens(self.verifier, narrow, laws, eos_ids=options.eos_ids)


def calibrate(
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    methods: Sequence[Method],
    *,
    temperatures: Sequence[float],
    repeats: int = 5,
    timed_rows: int = 1,
    report: Callable[[str], None] = lambda done: None,
    **options: Unpack[RequestOptions],
) -> Calibration:
    """Decodes prompts with few wide trees, and computes what every method would have produced.

    Methods whose trees are parts of one wide tree share its run, see `planning.sub_trees`. Given
    the context, what is expected of a method is exact. The contexts are those of the wide tree's
    blocks, which recursive rejection decides; blocks of a narrow tree begin at other places of the
    same text.

    Args:
      target, draft: the pair.
      prompts: token ids; what is found holds for texts like these.
      methods: from `build_method`, with their verifiers.
      temperatures: of the target.
      repeats: how often a block of each method is timed, in turns; the median counts.
      timed_rows: rows of the timed blocks.
      report: called with a line of text after each of the `steps`.
      options: of `generate`: `max_new_tokens`, `batch_size` and others, but no temperature.

    Raises:
      ConfigError: nothing to calibrate, a verifier has no `stops`, or as `generate`.
      NonFiniteLogitsError: as `generate`.
    """
    if not methods or not temperatures or not prompts:
        raise ConfigError("a calibration needs at least one method, temperature and prompt")
    positive_integer("repeats", repeats)
    rows = positive_integer("timed_rows", timed_rows, most=len(prompts))
    requests = [Request.of(prompts, **options | {"temperature": t}) for t in temperatures]
    sampling = requests[0].sampling
    expected: list[Expected] = []
    for request in requests:
        tokens: dict[Method, tuple[float, float, int]] = {}
        for group in _families(methods, request):
            tokens |= _tokens(group, target, draft, request)
            report(f"expected tokens at T = {request.sampling.temperature:g}")
        seconds = _seconds(methods, target, draft, request, repeats, rows, report)
        expected += [
            _entry(method, request, tokens[method], each)
            for method, each in zip(methods, seconds, strict=True)
        ]
    conditions = Conditions(
        **identity(target, draft),
        prompts=len(prompts),
        prompts_sha256=json_sha256([[int(token) for token in prompt] for prompt in prompts]),
        max_new_tokens=sampling.max_new_tokens,
        timed_rows=rows,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
    )
    return Calibration(conditions=conditions, expected=tuple(expected))


def steps(methods: Sequence[Method], temperatures: Sequence[float]) -> int:
    """How often `calibrate` reports progress."""
    runs = 0
    for temperature in temperatures:
        request = Request.of([[0]], max_new_tokens=1, temperature=temperature)
        runs += len(_families(methods, request)) + len(methods)
    return runs


def _families(methods: Sequence[Method], request: Request) -> list[list[Method]]:
    greedy = request.sampling.temperature == 0.0
    groups: dict[Any, list[Method]] = collections.defaultdict(list)
    for method in methods:
        draws = method.draft_temperature, method.draft_top_k
        groups[family(method.drafter, greedy=greedy), draws].append(method)
    return list(groups.values())


def _tokens(
    group: Sequence[Method], target: LoadedModel, draft: LoadedModel | None, request: Request
) -> dict[Method, tuple[float, float, int]]:
    """Expected tokens of a block, their standard error and the blocks, by method of one family."""
    greedy = request.sampling.temperature == 0.0
    drafter, parts = widest([method.drafter for method in group], greedy=greedy)
    if drafter.shape.depth == 0:
        return dict.fromkeys(group, (1.0, 0.0, 0))
    wide = dataclasses.replace(
        group[0], name="wide", drafter=drafter, verifier=VERIFIERS["recursive_rejection"]()
    )
    measures = tuple(
        _TokensOfPart(method.verifier, part) for method, part in zip(group, parts, strict=True)
    )
    run = observed_run(prepare(wide, target, draft, request), measures)
    blocks = run.result.stats.blocks
    return {
        method: (*_ratio(sums, blocks), int(blocks.sum()))
        for method, sums in zip(group, run.sums, strict=True)
    }


def _ratio(sums: np.ndarray, blocks: np.ndarray) -> tuple[float, float]:
    """The mean over blocks, and its standard error from prompts as independent samples."""
    mean, count = sums.sum() / blocks.sum(), len(sums)
    squares = ((sums - mean * blocks) ** 2).sum() * count / max(1, count - 1)
    return float(mean), float(np.sqrt(squares) / blocks.sum())


def _seconds(
    methods: Sequence[Method],
    target: LoadedModel,
    draft: LoadedModel | None,
    request: Request,
    repeats: int,
    rows: int,
    report: Callable[[str], None],
) -> list[float]:
    """Median seconds of a block of each method, on the prompts of middle length."""
    by_length = sorted(request.prompts, key=len)
    first = (len(by_length) - rows) // 2
    prompts, contestants = by_length[first : first + rows], []
    for method in methods:
        most = 2 * _BLOCKS * (method.drafter.shape.depth + 1)
        timed = endless_request(prompts, request.sampling, most)
        job = prepare(method, target, draft, dataclasses.replace(timed, skips=request.skips))
        contestants.append(TimedMethod(job, _BLOCKS, phases=False))
        report(f"{method.name} {method.tree}: compiled")
    taken = take_turns(contestants, repeats)
    return [statistics.median(each["block"]) for each in taken]


def _entry(
    method: Method, request: Request, found: tuple[float, float, int], seconds: float
) -> Expected:
    tokens, error, blocks = found
    return Expected(
        method=method.name,
        tree=method.tree,
        verifier=method.verifier_name,
        temperature=request.sampling.temperature,
        tokens=tokens,
        standard_error=error,
        blocks=blocks,
        nodes=method.drafter.max_nodes,
        seconds=seconds,
        draft_temperature=method.draft_temperature,
        draft_top_k=method.draft_top_k,
    )
