"""Drafts that know only some tokens of their target: the file that says which.

`token_map.json` beside a draft's config.json has `target_vocab_size`, V, and `target_ids`, for each
id of the draft the target's id of the same token, -1 for an id that stands for no token. The table
of a small draft is most of the draft, so a draft of the same size can be wider if the table holds
the frequent tokens only; see FR-Spec (Zhao et al. 2025, arXiv 2502.14856).
"""

import dataclasses
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.core.vocabulary import OnMappedTokens
from rsd_jax.errors import CheckpointError, is_integer
from rsd_jax.models.weight_files import read_json
from rsd_jax.records.complete_files import write_json

TOKEN_MAP = "token_map.json"
_MOST_TOKENS = 1 << 24  # of a target: far more than any has, few enough for a table of them


@dataclasses.dataclass(frozen=True, eq=False)
class TokenMap:
    """Which tokens of its target a draft knows.

    Attributes:
      target_vocab_size: V of the target.
      target_ids: i32[v], for each id of the draft the target's id; -1 for none.
    """

    target_vocab_size: int
    target_ids: np.ndarray

    @property
    def draft_ids(self) -> np.ndarray:
        """i32[V]: for each id of the target the draft's id; -1 for tokens that the draft lacks."""
        ids = np.full(self.target_vocab_size, -1, np.int32)
        known = np.flatnonzero(self.target_ids >= 0)
        ids[self.target_ids[known]] = known
        return ids

    def save(self, folder: pathlib.Path) -> None:
        """Writes the file into `folder`."""
        values = {
            "target_vocab_size": self.target_vocab_size,
            "target_ids": self.target_ids.tolist(),
        }
        write_json(folder / TOKEN_MAP, values)


def read_token_map(folder: pathlib.Path, vocab_size: int) -> TokenMap | None:
    """The map beside a model's config.json; None if there is none.

    Args:
      folder: of the model.
      vocab_size: v of the model.

    Raises:
      CheckpointError: the file is no map, or not one of a model with v tokens.
    """
    path = folder / TOKEN_MAP
    if not path.is_file():
        return None
    raw = read_json(path)
    size, ids = raw.get("target_vocab_size", 0), raw.get("target_ids")
    if not _is_map(size, ids, vocab_size):
        raise CheckpointError(
            f"{path} must hold target_vocab_size and, as target_ids, one id below that size or -1 "
            f"for each of the model's {vocab_size} tokens, each id once; copy the file again, or "
            "remove it if the model has the target's vocabulary"
        )
    return TokenMap(size, np.asarray(ids, np.int32))


def _is_map(size: Any, ids: Any, vocab_size: int) -> bool:
    """Whether `ids` lists, for each of v tokens, another id below `size`, or -1."""
    if not is_integer(size) or size > _MOST_TOKENS:
        return False
    if not isinstance(ids, list) or len(ids) != vocab_size:
        return False
    if not all(is_integer(each) and -1 <= each < size for each in ids):
        return False
    known = [each for each in ids if each >= 0]
    return len(set(known)) == len(known)


def on_mapped_tokens(draft: LoadedModel, draft_ids: np.ndarray) -> LoadedModel:
    """A draft with the token ids of its target.

    Args:
      draft: with v tokens of its own.
      draft_ids: i32[V], for each id of the target the draft's id, -1 for none.
    """
    layout = draft.layout
    ids = np.asarray(draft_ids, np.int32)
    placed = jnp.asarray(ids) if layout is None else layout.place(ids, (None,), ids.shape)
    return dataclasses.replace(
        draft,
        model=OnMappedTokens(draft.model, len(ids)),
        params={"model": draft.params, "draft_ids": placed},
    )
