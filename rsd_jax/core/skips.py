"""Skip sets: which sub-layers a target leaves out while it drafts for itself (Xia et al. 2025).

A skip set is bool[layers, 2]: for the attention and the MLP of every layer, whether it is skipped.
SWIFT never skips the first and the last layer, so a model of n layers has 2 (n - 2) switches: those
of layers 1, ..., n - 2 in order, attention before MLP.
"""

import numpy as np

from rsd_jax.errors import ConfigError, is_number

_SUB_LAYERS = 2


def num_switches(num_layers: int) -> int:
    """The number of sub-layers that can be skipped, 2 (n - 2).

    Raises:
      ConfigError: fewer than 3 layers, so that none lies between the first and the last.
    """
    if num_layers < 3:
        raise ConfigError(
            f"a model of {num_layers} layers has none between its first and its last, which are "
            "never skipped; layer skipping needs a target of at least 3 layers"
        )
    return _SUB_LAYERS * (num_layers - 2)


def from_switches(switches: np.ndarray) -> np.ndarray:
    """bool[2 (n - 2)] to the skip set bool[n, 2] that leaves the first and last layer alone."""
    inner = np.asarray(switches, bool).reshape(-1, _SUB_LAYERS)
    return np.pad(inner, ((1, 1), (0, 0)))


def to_switches(skips: np.ndarray) -> np.ndarray:
    """Inverse of `from_switches`: bool[n, 2] to bool[2 (n - 2)]."""
    return np.asarray(skips, bool)[1:-1].reshape(-1)


def empty_set(num_layers: int) -> np.ndarray:
    """bool[n, 2]: nothing is skipped; the draft is the target."""
    return np.zeros((num_layers, _SUB_LAYERS), bool)


def start_set(num_layers: int) -> np.ndarray:
    """bool[n, 2]: both sub-layers of layers 1, 3, ... below n - 1, about half of the switches.

    >>> start_set(4).astype(int).tolist()
    [[0, 0], [1, 1], [0, 0], [0, 0]]

    Raises:
      ConfigError: fewer than 3 layers.
    """
    num_switches(num_layers)
    skips = empty_set(num_layers)
    skips[1 : num_layers - 1 : 2] = True
    return skips


def check_ratio(ratio: float) -> None:
    """Raises `ConfigError` for a skip ratio outside [0, 1)."""
    if not (is_number(ratio) and 0.0 <= ratio < 1.0):
        raise ConfigError(
            f"skip ratio {ratio!r} must lie in [0, 1): the share of the sub-layers between the "
            "first and the last layer that are skipped"
        )


def num_skipped(num_layers: int, ratio: float) -> int:
    """int(2 (n - 2) r): the number of sub-layers that a set of skip ratio r skips.

    Raises:
      ConfigError: fewer than 3 layers, or a ratio outside [0, 1).
    """
    check_ratio(ratio)
    return int(num_switches(num_layers) * ratio)


def check_skips(skips: np.ndarray, num_layers: int) -> np.ndarray:
    """The set as bool[n, 2]. Every set is allowed, since no set changes the law of the output.

    Raises:
      ConfigError: the values are not booleans, or the shape is not that of a model of n layers.
    """
    array = np.asarray(skips)
    if array.dtype != bool or array.shape != (num_layers, _SUB_LAYERS):
        raise ConfigError(
            f"skips must be bool[{num_layers}, {_SUB_LAYERS}], attention and MLP of each of the "
            f"target's layers; got {array.dtype}{list(array.shape)}"
        )
    return array
