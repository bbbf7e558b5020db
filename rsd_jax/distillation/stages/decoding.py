"""The real decode at the end of training: block efficiency on test prompts, scores of answers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.answers import encode_prompts, task_answers
from rsd_jax.distillation.data.training_prompts import prompts_from_files
from rsd_jax.distillation.draft_decoding import DecodedRow, TaskPrompts, measure_decoding
from rsd_jax.distillation.workspace import DRAFT, TARGET, Workspace
from rsd_jax.engine.methods import build_method
from rsd_jax.engine.request import Sampling
from rsd_jax.records.complete_files import write_json
from rsd_jax.tasks import get_task


def decode(workspace: Workspace) -> None:
    """Decodes the test prompts of `config.decode` with the draft, and scores the target's answers.

    Writes decode.json in the workspace: "rows", see `DecodedRow`, and "scores", see `Score`, of
    greedy answers.

    Raises:
      ConfigError: a task is unknown or has fewer prompts; see `measure_decoding`.
      CheckpointError: a stage has left no checkpoint.
      NonFiniteLogitsError: see `generate`.
    """
    target, draft = workspace.target, workspace.loaded(DRAFT)
    write_json(
        workspace.root / "decode.json",
        {
            "rows": [dataclasses.asdict(row) for row in decode_draft(workspace, target, draft)],
            "scores": _scores(workspace, target),
        },
    )


def decode_draft(workspace: Workspace, target: LoadedModel, draft: LoadedModel) -> list[DecodedRow]:
    """What `config.decode` asks for, with any draft.

    Raises:
      ConfigError, NonFiniteLogitsError: see `decode`.
    """
    options = workspace.config["decode"]
    return measure_decoding(
        target,
        draft,
        _test_prompts(workspace),
        {name: build_method(**method) for name, method in options["methods"].items()},
        Sampling(
            max_new_tokens=options["max_new_tokens"],
            temperature=options["temperature"],
            seed=options["seed"],
            eos_ids=workspace.model(TARGET).config.eos_ids,
        ),
        batch_size=options["batch_size"],
    )


def _test_prompts(workspace: Workspace) -> TaskPrompts:
    """Of the tasks in `config.decode.prompts`, and of the user's files as a task of its own."""
    options, tokenizer = workspace.config["decode"], workspace.tokenizer()
    prompts: dict[str, Sequence[Sequence[int]]] = {
        task: encode_prompts(tokenizer, get_task(task), count)
        for task, count in options["prompts"].items()
    }
    files = options["prompt_files"]
    if files["patterns"]:
        limit = workspace.config["max_prompt_tokens"]
        own = prompts_from_files(tokenizer=tokenizer, max_tokens=limit, **files)
        prompts["files"] = list(own.values())
    return prompts


def _scores(workspace: Workspace, target: LoadedModel) -> dict[str, Any]:
    options, tokenizer = workspace.config["decode"], workspace.tokenizer()
    scores = {}
    for name, count in options["scored"].items():
        task = get_task(name)
        sampling = Sampling(
            max_new_tokens=task.max_new_tokens,
            temperature=0.0,
            eos_ids=workspace.model(TARGET).config.eos_ids,
        )
        answers = task_answers(
            target, tokenizer, task, count, sampling, batch_size=options["batch_size"]
        )
        scores[name] = dataclasses.asdict(task.score(answers, task.test_prompts(count)))
    return scores
