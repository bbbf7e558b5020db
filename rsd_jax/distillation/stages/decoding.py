"""The `decode` stage: block efficiency of the draft on test prompts, scores of answers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from rsd_jax.core.processes import on_writer
from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.data.corpus import is_held_out
from rsd_jax.distillation.draft_decoding import DecodedRow, TaskPrompts, measure_decoding
from rsd_jax.distillation.settings import DecodeSettings
from rsd_jax.distillation.workspace import DRAFT, SELF_PROMPTS, Workspace
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.prompts import greedy_answers, token_ids
from rsd_jax.records.complete_files import write_json
from rsd_jax.tasks import get_task

FILES_TASK = "files"
"""The task of the user's own test prompts."""


def decode_test_prompts(workspace: Workspace) -> None:
    """Decodes test prompts with the draft, and scores the target's answers.

    Writes decode.json in the workspace: "rows" (see `DecodedRow`) and "scores" of greedy answers
    (see `Score`).

    Raises:
      ConfigError: a task is unknown or has fewer prompts; see `measure_decoding`.
      CheckpointError: a stage has left no checkpoint.
      NonFiniteLogitsError: see `generate`.
    """
    target, draft = workspace.target, workspace.loaded(DRAFT)
    on_writer(
        write_json,
        workspace.root / "decode.json",
        {
            "rows": [dataclasses.asdict(row) for row in decode_draft(workspace, target, draft)],
            "scores": _scores(workspace, target),
        },
    )


def decode_draft(workspace: Workspace, target: LoadedModel, draft: LoadedModel) -> list[DecodedRow]:
    """Decodes the test prompts of the section `decode` with any draft.

    Raises:
      ConfigError, NonFiniteLogitsError: see `decode_test_prompts`.
    """
    settings: DecodeSettings = workspace.settings.section("decode")
    rows = measure_decoding(
        target,
        draft,
        _test_prompts(workspace, settings),
        settings.built_methods(),
        settings.sampling(workspace.ends[1]),
        batch_size=settings.batch_size,
    )
    own = [row for row in rows if row.task == FILES_TASK]
    if own:
        answers, tokens = sum(row.num_prompts for row in own), sum(row.tokens for row in own)
        workspace.warn_if_empty(settings.prompt_files, answers, tokens, settings.max_new_tokens)
    return rows


def _test_prompts(workspace: Workspace, settings: DecodeSettings) -> TaskPrompts:
    """Prompts of the tasks in `decode.prompts`, of the user's files, and of the target itself."""
    tokenizer = workspace.tokenizer()
    prompts: dict[str, Sequence[Sequence[int]]] = {
        task: token_ids(get_task(task).test_prompts(count), tokenizer)
        for task, count in settings.prompts.items()
    }
    if settings.prompt_files.patterns:
        prompts[FILES_TASK] = list(workspace.own_prompts(settings.prompt_files).values())
    if wanted := settings.self_prompts:
        held_out = [ids for name, ids in workspace.prompts_of_target().items() if is_held_out(name)]
        if len(held_out) < wanted:
            raise ConfigError(
                f"decode.self_prompts={wanted}, but only {len(held_out)} prompts of the target are "
                "held out; raise self_prompts.count, or ask for fewer"
            )
        prompts[SELF_PROMPTS] = held_out[:wanted]
    return prompts


def _scores(workspace: Workspace, target: LoadedModel) -> dict[str, Any]:
    settings: DecodeSettings = workspace.settings.section("decode")
    ends, tokenizer = workspace.ends[1], workspace.tokenizer()
    scores = {}
    for name, count in tqdm(settings.scored.items(), desc="answers", unit="task", disable=None):
        task = get_task(name)
        prompts = task.test_prompts(count)
        tokens = token_ids(prompts, tokenizer)
        sampling = Sampling(max_new_tokens=task.max_new_tokens, eos_ids=ends)
        answers = greedy_answers(target, tokenizer, tokens, sampling, settings.batch_size)
        scores[name] = dataclasses.asdict(task.score(answers, prompts))
    return scores
