"""Computes what methods are expected to produce, and times their answers."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np

from rsd_jax.core.identity import row_digest
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import Method
from rsd_jax.engine.phases import DecodeOptions
from rsd_jax.engine.request import Request, RequestOptions
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.evaluation.observed import observed_run
from rsd_jax.planning.calibration import Calibration, Conditions, Expected, identity
from rsd_jax.planning.seconds import Seconds, batches_to_time, measure_seconds
from rsd_jax.planning.sub_trees import SubTree, family, widest
from rsd_jax.records.json_objects import json_sha256
from rsd_jax.verifiers import VERIFIERS
from rsd_jax.verifiers.base import TargetLaws, Verifier
from rsd_jax.verifiers.expected import expected_tokens

Answers = Sequence[Sequence[int]]
"""Token ids of the answers to all prompts."""

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


class _Found(NamedTuple):
    """What a run says of one method.

    Attributes:
      tokens, error: expected tokens of a block, and the standard error.
      blocks: contexts that were seen.
    """

    tokens: float
    error: float
    blocks: int


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
      repeats: how often each timed answer is decoded, in turns; the median counts.
      timed_rows: rows of a timed batch.
      timed_batches: how many batches are timed, see `planning.seconds`.
      report: called with a line of text after each of the `steps`.
      options: of `generate`: `max_new_tokens`, `batch_size` and others, but no temperature.

    Raises:
      ConfigError: nothing to calibrate, a number is out of range (`timed_rows` may not be above the
        number of prompts), a verifier has no `stops`, or as `generate`.
      NonFiniteLogitsError: as `generate`.
    """
    if not methods or not temperatures or not prompts:
        raise ConfigError("a calibration needs at least one method, temperature and prompt")
    positive_integer("repeats", repeats)
    requests = [Request.of(prompts, **options | {"temperature": t}) for t in temperatures]
    sampling = requests[0].sampling
    chosen = batches_to_time([len(prompt) for prompt in prompts], timed_rows, timed_batches)
    expected: list[Expected] = []
    for request in requests:
        found: dict[Method, _Found] = {}
        runs: list[Answers] = []
        for group in _families(methods, request):
            of_group, answers = _expected(group, target, draft, request)
            found |= of_group
            runs += [answers] if answers else []
            report(f"expected tokens at T = {request.sampling.temperature:g}")
        lengths = [len(answer) for answers in runs for answer in answers]
        answer = float(np.mean(lengths)) if lengths else float(sampling.max_new_tokens)
        seconds = measure_seconds(
            methods, target, draft, request, chosen, repeats=repeats, report=report
        )
        expected += [
            _entry(method, request, found[method], answer, each)
            for method, each in zip(methods, seconds, strict=True)
        ]
    conditions = Conditions(
        **identity(target, draft),
        weights=row_digest(*(model for model in (target, draft) if model is not None)),
        prompts=len(prompts),
        prompts_sha256=json_sha256([[int(token) for token in prompt] for prompt in prompts]),
        max_new_tokens=sampling.max_new_tokens,
        timed_rows=timed_rows,
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


def _expected(
    group: Sequence[Method], target: LoadedModel, draft: LoadedModel | None, request: Request
) -> tuple[dict[Method, _Found], Answers]:
    """What is expected of the methods of one family, and the answers of the run."""
    greedy = request.sampling.temperature == 0.0
    drafter, parts = widest([method.drafter for method in group], greedy=greedy)
    if drafter.shape.depth == 0:
        return dict.fromkeys(group, _Found(1.0, 0.0, 0)), []
    wide = dataclasses.replace(
        group[0], name="wide", drafter=drafter, verifier=VERIFIERS["recursive_rejection"]()
    )
    measures = tuple(
        _TokensOfPart(method.verifier, part) for method, part in zip(group, parts, strict=True)
    )
    run = observed_run(prepare(wide, target, draft, request), measures)
    blocks = run.result.stats.blocks
    found = {
        method: _Found(*_ratio(sums, blocks), int(blocks.sum()))
        for method, sums in zip(group, run.sums, strict=True)
    }
    return found, run.result.tokens


def _ratio(sums: np.ndarray, blocks: np.ndarray) -> tuple[float, float]:
    """The mean over blocks, and its standard error from prompts as independent samples."""
    mean, count = sums.sum() / blocks.sum(), len(sums)
    squares = ((sums - mean * blocks) ** 2).sum() * count / max(1, count - 1)
    return float(mean), float(np.sqrt(squares) / blocks.sum())


def _entry(
    method: Method, request: Request, found: _Found, answer: float, seconds: Seconds
) -> Expected:
    return Expected(
        method=method.name,
        tree=method.tree,
        verifier=method.verifier_name,
        temperature=request.sampling.temperature,
        tokens=found.tokens,
        standard_error=found.error,
        blocks=found.blocks,
        nodes=method.drafter.max_nodes,
        seconds=seconds.block,
        prompt_seconds=seconds.prefill,
        answer=answer,
        draft_temperature=method.draft_temperature,
        draft_top_k=method.draft_top_k,
    )
