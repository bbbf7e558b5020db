"""Measures cells beside their baseline and makes rows of them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.comparison import compare
from rsd_jax.evaluation.measured_rows import comparison_rows, with_times
from rsd_jax.evaluation.prompts import texts
from rsd_jax.evaluation.sweep.accuracy import accuracy_fields
from rsd_jax.evaluation.sweep.cells import Cell, Turn
from rsd_jax.evaluation.sweep.subjects import Subject
from rsd_jax.evaluation.timing import time_blocks
from rsd_jax.records.hardware import Hardware, current_versions
from rsd_jax.records.rows import Row

SOURCE = "evaluate"
_MOST_TIMED_TOKENS = 512


def measure(
    turn: Turn,
    subject: Subject,
    methods: Mapping[tuple[str, str], Method],
    step: Callable[[str], None],
) -> list[Row]:
    """Decodes all prompts with the baseline and the turn's methods, in turns.

    Args:
      turn: what to measure.
      subject: on what.
      methods: by name and tree.
      step: called with a line of text after each of the `steps` of `compare`.

    Returns:
      a row for each of the turn's cells, in their order; "skipped" if no prompt fits the models.

    Raises:
      ConfigError, NonFiniteLogitsError: as `generate`.
    """
    sweep, encoded = subject.sweep, subject.encoded
    if not encoded.tokens:
        reason = (
            f"all {encoded.num_skipped} prompts are too long: with max_new_tokens they exceed a "
            "model's positions"
        )
        return [
            failed_row(cell, subject, methods[cell.method, cell.tree], reason, status="skipped")
            for cell in turn.cells
        ]
    listed = [methods[method] for method in turn.methods]
    sampling = _sampling(turn, subject)
    measured, _ = compare(
        listed,
        subject.models.target,
        subject.models.draft,
        encoded.tokens,
        sampling,
        step,
        batch_size=sweep.batch_size,
        capacity=subject.capacity,
    )
    rows = comparison_rows(
        measured,
        subject.models.target,
        subject.models.draft,
        sampling,
        source=SOURCE,
        pair=turn.pair,
        task=turn.task,
    )
    if sweep.phase_repeats:
        rows = _timed(rows, listed, subject, turn)
    answers = [texts(subject.models.tokenizer, each.tokens, subject.ends) for each in measured]
    scored = [
        accuracy_fields(subject.task, encoded.prompts, own, answers[0])
        if Cell.of(row) in turn.cells
        else {}
        for row, own in zip(rows, answers, strict=True)
    ]
    finished = [
        dataclasses.replace(row, **_coordinates(turn, each.method, subject), **fields)
        for row, each, fields in zip(rows, measured, scored, strict=True)
    ]
    return [row for row in finished if Cell.of(row) in turn.cells]


def _sampling(turn: Turn, subject: Subject) -> Sampling:
    settings = subject.sweep.tasks[turn.task]
    return settings.at(turn.temperature, seed=turn.seed, eos_ids=subject.ends)


def _coordinates(where: Turn | Cell, method: Method, subject: Subject) -> dict[str, Any]:
    """The fields of a row that are known before anything is measured."""
    sweep, target = subject.sweep, subject.models.target
    settings, encoded = sweep.tasks[where.task], subject.encoded
    return {
        "source": SOURCE,
        "experiment": sweep.experiment,
        "pair": where.pair,
        "task": where.task,
        "template": sweep.pairs[where.pair].template,
        "method": method.name,
        "tree": method.tree,
        "draft_length": method.drafter.shape.depth,
        "target_budget": method.drafter.max_nodes - 1,
        "draft_temperature": method.draft_temperature,
        "draft_top_k": method.draft_top_k,
        "temperature": where.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "seed": where.seed,
        "max_new_tokens": settings.max_new_tokens,
        "batch_size": sweep.batch_size,
        "dtype": getattr(target.model, "dtype", None),
        "mesh": dict(target.layout.mesh.shape) if target.layout else None,
        "num_skipped": encoded.num_skipped,
        "eos_ids": list(subject.ends),
        "prompts_sha256": encoded.sha256,
        "references_sha256": encoded.references_sha256 if subject.task.metric else None,
        "weights_sha256": subject.weights_sha256,
        "config_hash": sweep.hash_of(where.pair, where.task),
        "hardware": Hardware.current(),
        "versions": current_versions(),
    }


def _timed(rows: list[Row], methods: list[Method], subject: Subject, turn: Turn) -> list[Row]:
    """The rows with the times of a block's phases, on the first batch."""
    sweep = subject.sweep
    prompts = subject.encoded.tokens[: sweep.batch_size]
    context = max(map(len, prompts))
    models = (subject.models.target, subject.models.draft)
    positions = min(each.model.max_positions for each in models if each is not None)
    most = min(_MOST_TIMED_TOKENS, positions - context)
    # Every row must go on through the blocks that lead to the state and those that are timed.
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
    return Row(**_coordinates(cell, method, subject), status=status, message=message)
