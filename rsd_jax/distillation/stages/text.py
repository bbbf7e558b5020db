"""The `text` stage: training text as tokens, and the tokenizer."""

import dataclasses

from tokenizers import Tokenizer

from rsd_jax.distillation.data import documents
from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.data.mixture import check_weights
from rsd_jax.distillation.responses.identities import check_tokenizer_fits
from rsd_jax.distillation.workspace import TARGET, Workspace
from rsd_jax.errors import ConfigError


def write_text(workspace: Workspace) -> None:
    """Writes both splits of every source as tokens; trains a tokenizer if the target has none.

    A trained target needs no text: with an empty mixture nothing is written.

    Raises:
      ConfigError: the mixture names no source, or a source without documents; the target has no EOS
        token, or its vocabulary is too small for the tokenizer.
    """
    settings = workspace.settings
    if not settings.mixture and workspace.target_directory is not None:
        return  # the draft learns from the target's responses alone
    sources = check_weights(settings.mixture, documents.SOURCES)
    library = workspace.library() if set(sources) - {documents.FILES} else []
    tasks = documents.task_documents(library, settings.mixture, settings.number_words)
    if documents.LIBRARY not in sources:
        library = []
    bos_id, eos_ids = workspace.ends
    if workspace.target_directory is not None:
        check_tokenizer_fits(workspace.tokenizer(), workspace.model(TARGET).vocab_size)
    own = dataclasses.asdict(settings.files) if documents.FILES in sources else None
    if workspace.target_directory is None:
        most = settings.section("tokenizer_documents")
        trained = bpe.train_tokenizer(
            documents.tokenizer_texts(library, tasks, most, own),
            vocab_size=settings.section("vocab_size"),
        )
        _check_unused(workspace, trained)
        length = settings.section(TARGET).model.max_positions
        bpe.save_tokenizer(trained, workspace.tokenizer_directory, max_length=length)
    documents.write_sources(
        library,
        tasks,
        workspace.tokenizer(),
        workspace.root / "corpus",
        own=own,
        bos_id=bos_id,
        eos_id=eos_ids[0],
    )


def _check_unused(workspace: Workspace, tokenizer: Tokenizer) -> None:
    """Raises `ConfigError` if models were trained with another tokenizer."""
    if not (workspace.root / TARGET / "checkpoints").is_dir():
        return
    if tokenizer.get_vocab() != workspace.tokenizer().get_vocab():
        raise ConfigError(
            f"the models in {workspace.root} were trained with another tokenizer than the one of "
            "this text; use another workdir"
        )
