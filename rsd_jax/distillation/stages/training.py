"""Training runs of target and draft: their windows, teachers and initial parameters."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax

from rsd_jax.core.processes import read
from rsd_jax.core.types import LoadedModel, Params
from rsd_jax.distillation.data.mixture import Mixture
from rsd_jax.distillation.data.windows import Data, Windows
from rsd_jax.distillation.evaluate import evaluate
from rsd_jax.distillation.evaluate_stored import stored_evaluation
from rsd_jax.distillation.losses import LOSSES
from rsd_jax.distillation.responses.on_policy import mix_on_policy
from rsd_jax.distillation.settings import DraftSettings, OnPolicy, TrainingSettings
from rsd_jax.distillation.table_start import table_of, with_table_of_target
from rsd_jax.distillation.training.train import Evaluate, Rewrite, train
from rsd_jax.distillation.workspace import DRAFT, HELD_OUT, TARGET, WARM_START, Workspace
from rsd_jax.errors import ConfigError


def train_target(workspace: Workspace) -> None:
    """Trains the target, or resumes training, unless the target was trained elsewhere.

    Raises:
      ConfigError: an earlier stage has not run; see `train`.
      NonFiniteLossError: see `train`.
    """
    if workspace.target_directory is None:
        _train_on_text(workspace, TARGET, workspace.recipe(TARGET), run=TARGET)


def train_warm_start(workspace: Workspace) -> None:
    """Trains the draft on text, if there is a warm start; errors as `train_target`."""
    if workspace.settings.draft_warm_start is None:
        return
    _train_on_text(workspace, WARM_START, workspace.recipe(WARM_START), run=WARM_START)


def train_draft(workspace: Workspace) -> None:
    """Trains the draft, from its warm start if there is one; errors as `train_target`."""
    distil(workspace, workspace.recipe(DRAFT), DRAFT)


def distil(workspace: Workspace, recipe: TrainingSettings, run: str) -> None:
    """Trains the draft, from its warm start if there is one, by `recipe` in the directory `run`.

    The objective "cross_entropy" trains on text, without distillation. All other objectives train
    on the windows of the section `draft`.

    Raises:
      as `train_target`.
    """
    if recipe.objective not in LOSSES:
        _train_on_text(workspace, DRAFT, recipe, run=run)
        return
    settings: DraftSettings = workspace.settings.section(DRAFT)
    stored, on_policy = settings.stored_logits, settings.on_policy
    if not settings.draft_writes:
        on_policy = None
    if on_policy is not None and workspace.mesh is not None:
        raise ConfigError("draft.on_policy runs on one device; leave out the mesh")
    target = workspace.target
    train(
        workspace.model(DRAFT, recipe.compute_dtype),
        recipe,
        draft_data(workspace, settings.data, stored=stored),
        workspace.root / run,
        init=start_of_draft(workspace, recipe),
        teacher=None if stored else (workspace.model(TARGET, recipe.compute_dtype), target.params),
        evaluate=_held_out(workspace, DRAFT, recipe, target)
        if workspace.settings.mixture
        else _held_out_responses(workspace, recipe),
        rewrite=_rewrite(workspace, recipe, on_policy) if on_policy else None,
        mesh=workspace.mesh,
    )


def draft_data(workspace: Workspace, shares: Mapping[str, float], *, stored: bool) -> Data:
    """Windows of responses and of text.

    Args:
      workspace: gives text and responses.
      shares: weights of "responses" and "text".
      stored: whether to read the stored log probabilities.

    Raises:
      ConfigError: a share is unknown, or no share is positive; the generate stage has not run.
    """
    unknown = sorted(set(shares) - {"responses", "text"})
    if unknown or not any(share > 0 for share in shares.values()):
        raise ConfigError(f"draft.data={dict(shares)} must give responses or text a share")
    if stored:
        split = None if workspace.settings.mixture else "train"
        return workspace.responses(top=True, split=split)
    text = workspace.text("train")
    total = sum(source.weight for source in text.sources)
    share = shares.get("text", 0.0)
    sources = [
        dataclasses.replace(source, weight=share * source.weight / total)
        for source in (text.sources if share > 0 else ())
    ]
    if shares.get("responses"):
        sources.append(workspace.responses(weight=shares["responses"]))
    return Mixture(tuple(sources))


def _train_on_text(workspace: Workspace, stage: str, recipe: TrainingSettings, *, run: str) -> None:
    target = workspace.target if stage != TARGET else None
    start = start_of_draft(workspace, recipe) if stage == DRAFT else None
    text = workspace.text("train")
    teacher = None
    if recipe.objective in LOSSES:
        if target is None:
            raise ConfigError(
                f"{stage}: objective={recipe.objective!r} needs a teacher; use 'cross_entropy'"
            )
        teacher = workspace.model(TARGET, recipe.compute_dtype), target.params
    train(
        workspace.model(stage, recipe.compute_dtype),
        recipe,
        text,
        workspace.root / run,
        init=start,
        teacher=teacher,
        evaluate=_held_out(workspace, stage, recipe, target),
        mesh=workspace.mesh,
    )


def _held_out(
    workspace: Workspace, stage: str, recipe: TrainingSettings, target: LoadedModel | None
) -> Evaluate:
    windows = workspace.text(HELD_OUT).spread_windows(
        count=recipe.eval_windows, length=recipe.window
    )
    model = workspace.model(stage)
    teacher = (workspace.model(TARGET), target.params) if target is not None else None

    def measure(params: Params) -> dict[str, float]:
        return evaluate(
            model,
            params,
            windows.tokens,
            teacher=teacher,
            batch_size=recipe.eval_batch_size,
            layout=workspace.layout,
        )

    return measure


def _held_out_responses(workspace: Workspace, recipe: TrainingSettings) -> Evaluate:
    """Measures the draft on the stored laws of held-out responses."""
    source = workspace.responses(top=True, split=HELD_OUT)
    return stored_evaluation(workspace.model(DRAFT), source, recipe, workspace.layout)


def start_of_draft(workspace: Workspace, recipe: TrainingSettings) -> Callable[[], Params]:
    """The draft's first parameters: its warm start's, or random, perhaps with a given table."""
    if workspace.settings.draft_warm_start is not None:
        return functools.partial(workspace.params, WARM_START)
    draft = workspace.settings.draft

    def start() -> Params:
        random = workspace.model(DRAFT).init_params(jax.random.key(recipe.seed))
        if draft is None or not draft.table_from_target:
            return random
        table, known = read(table_of(workspace.target.params)), workspace.token_map
        return with_table_of_target(read(random), table, known.target_ids if known else None)

    return start


def _rewrite(workspace: Workspace, recipe: TrainingSettings, options: OnPolicy) -> Rewrite:
    """Rewrites windows with the step's draft, on prompts that the target has answered."""
    prompts = [prompt.tolist() for prompt in workspace.responses().prompts()]
    model = workspace.model(DRAFT)
    options = dataclasses.replace(options, eos_ids=options.eos_ids or model.config.eos_ids)

    def rewrite(windows: Windows, params: Params, step: int) -> Windows:
        draft = LoadedModel(model, params)
        return mix_on_policy(windows, draft, prompts, options, seed=recipe.seed, step=step)

    return rewrite
