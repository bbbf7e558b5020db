"""Drafts with another tokenizer than their target."""

from typing import Any

from rsd_jax.core.types import LoadedModel
from rsd_jax.models.token_map import on_mapped_tokens
from rsd_jax.text.shared_tokens import draft_ids


def share_tokens(
    draft: LoadedModel, draft_tokenizer: Any, target: LoadedModel, target_tokenizer: Any
) -> LoadedModel:
    """A draft that proposes the tokens that its tokenizer shares with that of the target.

    The output keeps the target's law. Tokens that are not shared are never drafted, and the draft
    reads id 0 in their place, so fewer tokens are accepted than from a draft of the same quality
    with the target's tokenizer.

    Args:
      draft: the model that proposes.
      draft_tokenizer: its tokenizer, a fast one of transformers.
      target: the model whose law is sampled.
      target_tokenizer: its tokenizer.

    Returns:
      the draft with V of the target; for `generate` as any other draft.

    Raises:
      ConfigError: the tokenizers cannot be compared, or have no token in common.

    Source: Timor et al. 2025, token-level intersection.
    """
    sizes = target.model.vocab_size, draft.model.vocab_size
    return on_mapped_tokens(draft, draft_ids(target_tokenizer, draft_tokenizer, *sizes))
