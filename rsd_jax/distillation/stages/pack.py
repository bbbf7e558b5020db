"""Packs the draft's training, to train the draft on another machine."""

from rsd_jax.distillation.packed import write_packed
from rsd_jax.distillation.settings import DraftSettings
from rsd_jax.distillation.stages.training import start_of_draft
from rsd_jax.distillation.workspace import DRAFT, PACKED, Workspace
from rsd_jax.errors import ConfigError


def pack(workspace: Workspace) -> None:
    """Writes the folder `packed` of the work directory, see `rsd_jax.distillation.packed`.

    Raises:
      ConfigError: the draft does not learn from stored log probabilities, so it would need its
        target; or an earlier stage has not run.
      CheckpointError: an earlier stage has left no checkpoint.
    """
    settings: DraftSettings = workspace.settings.section(DRAFT)
    if not settings.stored_logits:
        raise ConfigError(
            "a packed draft learns without its target: set draft.stored_logits to True"
        )
    recipe, model = settings.recipe, workspace.model(DRAFT)
    write_packed(
        workspace.root / PACKED,
        recipe,
        model.config,
        start_of_draft(workspace, recipe)(),
        workspace.response_folders(),
        token_map=workspace.token_map,
        holds_out=not workspace.settings.mixture,
    )
