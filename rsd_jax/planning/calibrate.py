"""Computes what methods are expected to produce, and times their blocks."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import jax
import numpy as np

from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import Method
from rsd_jax.engine.phases import DecodeOptions
from rsd_jax.engine.request import Request, RequestOptions, Sampling
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.evaluation.observed import observed_run
from rsd_jax.planning.calibration import Calibration, Conditions, Expected, identity
from rsd_jax.planning.seconds import Seconds, batches_to_time, measure_seconds
from rsd_jax.planning.sub_trees import SubTree, family, widest
from rsd_jax.records.json_objects import json_sha256
from rsd_jax.verifiers import VERIFIERS
from rsd_jax.verifiers.base import TargetLaws, Verifier
from rsd_jax.verifiers.expected import expected_tokens

TIMED_BATCHES = 8
"""How many batches are timed if nothing else is asked for."""


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


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """What a run says of one method.

    Attributes:
      mean, error: expected tokens of a block, and the standard error.
      blocks: contexts that were seen.
      answers: to all prompts; none if nothing was decoded.
    """

    mean: float
    error: float
    blocks: int
    answers: Sequence[Sequence[int]] = ()


def calibrate(
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    methods: Sequence[Method],
    *,
    temperatures: Sequence[float],
    repeats: int = 3,
    timed_rows: int = 1,
    timed_batches: int = TIMED_BATCHES,
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
      repeats: how often prompts and blocks are timed, in turns; the median counts.
      timed_rows: rows of a timed batch.
      timed_batches: how many batches are timed, see `planning.seconds`.
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
    positive_integer("timed_batches", timed_batches)
    requests = [Request.of(prompts, **options | {"temperature": t}) for t in temperatures]
    sampling = requests[0].sampling
    chosen = batches_to_time([len(prompt) for prompt in prompts], rows, timed_batches)
    expected: list[Expected] = []
    for request in requests:
        tokens: dict[Method, _Tokens] = {}
        for group in _families(methods, request):
            tokens |= _tokens(group, target, draft, request)
            report(f"expected tokens at T = {request.sampling.temperature:g}")
        answers = next((each.answers for each in tokens.values() if each.answers), None)
        answers = [[]] * len(prompts) if answers is None else answers
        seconds = measure_seconds(
            methods, target, draft, request, answers, chosen, repeats=repeats, report=report
        )
        expected += [
            _entry(method, request, tokens[method], _mean_length(tokens, sampling), each)
            for method, each in zip(methods, seconds, strict=True)
        ]
    conditions = Conditions(
        **identity(target, draft),
        prompts=len(prompts),
        prompts_sha256=json_sha256([[int(token) for token in prompt] for prompt in prompts]),
        max_new_tokens=sampling.max_new_tokens,
        timed_rows=rows,
        timed_batches=len(chosen),
        top_k=sampling.top_k,
        top_p=sampling.top_p,
    )
    return Calibration(conditions=conditions, expected=tuple(expected))


def steps(
    methods: Sequence[Method],
    temperatures: Sequence[float],
    prompts: int,
    *,
    timed_rows: int = 1,
    timed_batches: int = TIMED_BATCHES,
) -> int:
    """How often `calibrate` reports progress."""
    batches = len(batches_to_time([1] * prompts, timed_rows, timed_batches))
    runs = 0
    for temperature in temperatures:
        request = Request.of([[0]], max_new_tokens=1, temperature=temperature)
        runs += len(_families(methods, request)) + len(methods) + batches
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
) -> dict[Method, _Tokens]:
    """What is expected of the methods of one family."""
    greedy = request.sampling.temperature == 0.0
    drafter, parts = widest([method.drafter for method in group], greedy=greedy)
    if drafter.shape.depth == 0:
        return dict.fromkeys(group, _Tokens(1.0, 0.0, 0))
    wide = dataclasses.replace(
        group[0], name="wide", drafter=drafter, verifier=VERIFIERS["recursive_rejection"]()
    )
    measures = tuple(
        _TokensOfPart(method.verifier, part) for method, part in zip(group, parts, strict=True)
    )
    run = observed_run(prepare(wide, target, draft, request), measures)
    blocks, answers = run.result.stats.blocks, run.result.tokens
    return {
        method: _Tokens(*_ratio(sums, blocks), int(blocks.sum()), answers)
        for method, sums in zip(group, run.sums, strict=True)
    }


def _ratio(sums: np.ndarray, blocks: np.ndarray) -> tuple[float, float]:
    """The mean over blocks, and its standard error from prompts as independent samples."""
    mean, count = sums.sum() / blocks.sum(), len(sums)
    squares = ((sums - mean * blocks) ** 2).sum() * count / max(1, count - 1)
    return float(mean), float(np.sqrt(squares) / blocks.sum())


def _mean_length(tokens: Mapping[Method, _Tokens], sampling: Sampling) -> float:
    """Mean tokens of an answer, over the runs."""
    lengths = [len(answer) for each in tokens.values() for answer in each.answers]
    return sum(lengths) / len(lengths) if lengths else float(sampling.max_new_tokens)


def _entry(
    method: Method, request: Request, tokens: _Tokens, answer: float, seconds: Seconds
) -> Expected:
    return Expected(
        method=method.name,
        tree=method.tree,
        verifier=method.verifier_name,
        temperature=request.sampling.temperature,
        tokens=tokens.mean,
        standard_error=tokens.error,
        blocks=tokens.blocks,
        nodes=method.drafter.max_nodes,
        seconds=seconds.block,
        prompt_seconds=seconds.prompt,
        answer=answer,
        draft_temperature=method.draft_temperature,
        draft_top_k=method.draft_top_k,
    )
