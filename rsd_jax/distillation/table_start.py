"""A draft that starts from its target's table of tokens.

Most of what a small draft has to learn is what its tokens mean, which the target's table knows
already. The draft's table starts as the rows of its tokens, projected onto the directions in which
these rows differ most (a truncated singular value decomposition, so the inner products of rows,
and with them the similarities of tokens, change as little as the width allows).
"""

import jax
import numpy as np

from rsd_jax.core.types import Params
from rsd_jax.errors import ConfigError

_TABLE = ("embed_tokens", "embedding")


def table_of(params: Params) -> jax.Array:
    """The table of tokens [V, E] among the parameters of a Llama or OPT model."""
    outer, inner = _TABLE
    table: jax.Array = params[outer][inner]
    return table


def with_table_of_target(
    params: Params, target_table: np.ndarray, target_ids: np.ndarray | None
) -> Params:
    """The draft's parameters with the table of the target.

    The rows are scaled to the mean square of the table in `params`, for which learning rates are
    made. Where an id stands for no token of the target, the row stays.

    Args:
      params: of the draft, on the host or one device; the table is f32[v, D].
      target_table: [V, E], of any float dtype.
      target_ids: i32[v], for each id of the draft the target's id, -1 for none; None if both have
        one vocabulary.

    Raises:
      ConfigError: the draft is wider than the target's table.
    """
    table, source = np.asarray(table_of(params)), np.asarray(target_table).astype(np.float32)
    if table.shape[1] > source.shape[1]:
        raise ConfigError(
            f"table_from_target: the draft has hidden_size={table.shape[1]}, the target's table "
            f"only {source.shape[1]} columns; make the draft narrower, or leave the option out"
        )
    ids = np.arange(len(source)) if target_ids is None else np.asarray(target_ids)
    known = ids >= 0
    rows = _projected(source[ids[known]], table.shape[1])
    started = table.copy()
    started[known] = rows * (_root_mean_square(table) / _root_mean_square(rows))
    outer, inner = _TABLE
    return {**params, outer: {**params[outer], inner: started}}


def _projected(rows: np.ndarray, width: int) -> np.ndarray:
    """f32[n, E] to f32[n, width]: coordinates along the leading right singular vectors."""
    _, vectors = np.linalg.eigh(rows.T @ rows)  # ascending
    return rows @ vectors[:, ::-1][:, :width]


def _root_mean_square(values: np.ndarray) -> np.floating:
    return np.sqrt(np.mean(np.square(values)))
