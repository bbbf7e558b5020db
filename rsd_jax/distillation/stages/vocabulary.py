"""The `vocabulary` stage: which of the target's tokens the draft knows."""

import numpy as np

from rsd_jax.distillation.workspace import TARGET, Workspace
from rsd_jax.errors import ConfigError
from rsd_jax.models.token_map import TOKEN_MAP, TokenMap, read_token_map
from rsd_jax.records.complete_files import write_json


def write_vocabulary(workspace: Workspace) -> None:
    """Writes token_map.json: the target's most frequent tokens in the responses for training.

    vocabulary.json says which share of the tokens of these responses the draft knows.
    Ties go to the lower id. The draft's id 0 stands for all other tokens; the target's ends of an
    answer are always known. Nothing is written without `frequent_tokens`.

    Raises:
      ConfigError: the generate stage has not run, `frequent_tokens` exceeds the target's
        vocabulary, or another choice of tokens is there already, which a draft may have learned.
    """
    size = workspace.settings.frequent_tokens
    if size is None:
        return
    vocab_size = workspace.model(TARGET).vocab_size
    if size > vocab_size:
        raise ConfigError(
            f"frequent_tokens={size} exceeds the target's {vocab_size} tokens; leave it out to "
            "give the draft the target's vocabulary"
        )
    source = workspace.target_responses(split="train")
    counts = np.bincount(source.tokens[source.is_response], minlength=vocab_size)
    order = counts.astype(np.float64)
    order[list(workspace.ends[1])] = np.inf
    frequent = np.argsort(-order, kind="stable")[: size - 1]
    chosen = TokenMap(vocab_size, np.concatenate([[-1], np.sort(frequent)]).astype(np.int32))
    there = read_token_map(workspace.root, size)
    if there is not None and not np.array_equal(there.target_ids, chosen.target_ids):
        raise ConfigError(
            f"{workspace.root / TOKEN_MAP} holds other tokens than these responses give, and the "
            "draft may have learned those; use another workdir, or delete the file and draft/"
        )
    chosen.save(workspace.root)
    known = float(counts[frequent].sum() / counts.sum())
    write_json(workspace.root / "vocabulary.json", {"tokens": size - 1, "share_of_text": known})
