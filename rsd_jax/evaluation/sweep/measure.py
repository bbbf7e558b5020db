"""Measures cells together with their baseline and makes their rows."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rsd_jax.engine.batching import fewest_positions
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import Method, lossless_verifiers
from rsd_jax.engine.request import Request, Sampling
from rsd_jax.evaluation.comparison import compare
from rsd_jax.evaluation.empty_answers import EmptyAnswers
from rsd_jax.evaluation.expected import expected_run
from rsd_jax.evaluation.measured_rows import decoding_parts, header, with_times
from rsd_jax.evaluation.prompts import texts
from rsd_jax.evaluation.root_acceptance import has_optimum
from rsd_jax.evaluation.sweep.accuracy import scores
from rsd_jax.evaluation.sweep.cells import Cell, Turn
from rsd_jax.evaluation.sweep.definition import MethodKey
from rsd_jax.evaluation.sweep.subjects import Subject
from rsd_jax.evaluation.timing import time_blocks
from rsd_jax.records.categories import Categories
from rsd_jax.records.expected import Expected
from rsd_jax.records.optimum import Optimum
from rsd_jax.records.rows import Row, own_verifier

SOURCE = "evaluate"
_MOST_TIMED_TOKENS = 512


def measure_turn(
    turn: Turn,
    subject: Subject,
    methods: Mapping[MethodKey, Method],
    step: Callable[[str], None],
    empty: EmptyAnswers,
) -> list[Row]:
    """Decodes all prompts with the baseline and the turn's methods, in turns.

    Args:
      turn: the cells to measure.
      subject: the models and prompts to measure on.
      methods: by their keys.
      step: called with a line of text after each of the `steps` of `compare`, and after each run
        for expected tokens.
      empty: warns if all answers are empty.

    Returns:
      a row for each of the turn's cells, in order; status "skipped" if no prompt fits the models.

    Raises:
      ConfigError, NonFiniteLogitsError: as `generate`.
    """
    sweep, encoded, models = subject.sweep, subject.encoded, subject.models
    if not encoded.tokens:
        draft = models.draft.model if models.draft is not None else None
        positions, which = fewest_positions(models.target.model, draft)
        reason = (
            f"all {encoded.num_skipped} prompts are too long: with max_new_tokens they exceed the "
            f"{which}'s {positions} positions"
        )
        return [
            failed_row(cell, subject, methods[cell.method], reason, status="skipped")
            for cell in turn.cells
        ]
    listed = [methods[method] for method in turn.methods]
    measured, _ = compare(
        listed,
        models.target,
        models.draft,
        encoded.tokens,
        _sampling(turn, subject),
        step,
        batch_size=sweep.batch_size,
        batches_per_call=sweep.batches_in_call,
        capacity=subject.capacity,
    )
    empty.check(
        turn.task,
        answers=sum(len(each.tokens) for each in measured),
        tokens=sum(len(row) for each in measured for row in each.tokens),
        max_new_tokens=sweep.tasks[turn.task].max_new_tokens,
        template=subject.task.template,
        tokenizer=models.tokenizer,
    )
    parts = decoding_parts(measured, models.target, models.draft)
    rows = [
        Row(
            **_header(turn, one.method, subject),
            decoding=part,
            categories=Categories.of(one.stats, [prompt.category for prompt in encoded.prompts]),
        )
        for one, part in zip(measured, parts, strict=True)
    ]
    if sweep.phase_repeats:
        rows = _timed(rows, listed, subject, turn)
    if sweep.expected:
        rows = [
            _with_expected(row, method, subject, turn, step) if Cell.of(row) in turn.cells else row
            for row, method in zip(rows, listed, strict=True)
        ]
    answers = [texts(models.tokenizer, each.tokens, subject.ends) for each in measured]
    return [
        dataclasses.replace(row, scores=scores(subject.task, encoded.prompts, own, answers[0]))
        for row, own in zip(rows, answers, strict=True)
        if Cell.of(row) in turn.cells
    ]


def _sampling(where: Turn | Cell, subject: Subject) -> Sampling:
    settings = subject.sweep.tasks[where.task]
    return settings.at(where.temperature, seed=where.seed, eos_ids=subject.ends)


def _header(where: Turn | Cell, method: Method, subject: Subject) -> dict[str, Any]:
    sweep, encoded = subject.sweep, subject.encoded
    return header(
        subject.models.target,
        method,
        draft=subject.models.draft,
        sampling=_sampling(where, subject),
        source=SOURCE,
        kind="decoding",
        experiment=sweep.experiment,
        pair=where.pair,
        task=where.task,
        template=sweep.pairs[where.pair].template,
        chat_date=encoded.chat_date,
        batch_size=sweep.batch_size,
        batches_per_call=sweep.batches_in_call if sweep.batches_in_call > 1 else None,
        num_skipped=encoded.num_skipped,
        eos_ids=list(subject.ends),
        prompts_sha256=encoded.sha256,
        references_sha256=encoded.references_sha256 if subject.task.metric else None,
        weights_sha256=subject.weights_sha256,
        config_hash=sweep.hash_of(where.pair, where.task),
    )


def _with_expected(
    row: Row, method: Method, subject: Subject, turn: Turn, step: Callable[[str], None]
) -> Row:
    """The row with the expected tokens of every verifier that is lossless for the method.

    If the sweep asks for the optimum and the optimum is known, the row has that part too.
    """
    if Cell.of(row).is_baseline:
        return row
    request = Request(
        prompts=subject.encoded.tokens,
        sampling=_sampling(turn, subject),
        batch_size=subject.sweep.batch_size,
        capacity=subject.capacity,
    )
    job = prepare(method, subject.models.target, subject.models.draft, request)
    blocks = subject.sweep.optimum_blocks
    if turn.temperature == 0 or not has_optimum(method.drafter):
        blocks = 0
    run = expected_run(job, lossless_verifiers(method), optimum_blocks=blocks)
    step(f"{method.name}: expected tokens")
    own = own_verifier(method.name)
    row = dataclasses.replace(row, expected=Expected.of(run.sums, run.result.stats.blocks, own))
    if run.roots is None:
        return row
    roots, siblings = run.roots, method.drafter.shape.widths[1]
    part = Optimum.of(roots.acceptance, roots.optimum, roots.blocks, siblings=siblings)
    return dataclasses.replace(row, optimum=part)


def _timed(rows: list[Row], methods: list[Method], subject: Subject, turn: Turn) -> list[Row]:
    """The rows with the times of a block's phases, measured on the first batch."""
    sweep = subject.sweep
    prompts = subject.encoded.tokens[: sweep.batch_size]
    context = max(map(len, prompts))
    models = (subject.models.target, subject.models.draft)
    positions = min(each.model.max_positions for each in models if each is not None)
    most = min(_MOST_TIMED_TOKENS, positions - context)
    # No row may end, neither in the blocks that lead to the timed state nor in the timed blocks.
    longest = max(method.drafter.shape.depth for method in methods) + 1
    times = time_blocks(
        methods,
        subject.models.target,
        subject.models.draft,
        prompts,
        _sampling(turn, subject),
        max_new_tokens=[most] * len(methods),
        blocks=max(1, min(16, most // (2 * longest))),
        repeats=sweep.phase_repeats,
    )
    return [
        with_times(row, taken, times[0], context) for row, taken in zip(rows, times, strict=True)
    ]


def failed_row(
    cell: Cell, subject: Subject, method: Method, message: str, status: str = "failed"
) -> Row:
    """The row of a cell that could not be measured."""
    return Row(**_header(cell, method, subject), status=status, message=message)
