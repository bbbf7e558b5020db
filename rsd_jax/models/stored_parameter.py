"""A parameter in the file of its model, of which any part can be read."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from rsd_jax.models.family import TensorSpec
from rsd_jax.models.weight_files import Stored

Index = tuple[slice, ...]
"""One slice per dimension, with a start and a stop, without a step."""

_PIECE = 1 << 24  # bytes that are read at once, as they are stored


@dataclasses.dataclass(frozen=True)
class StoredParameter:
    """A parameter that has not been read yet.

    Attributes:
      place: the file that holds the tensor.
      name: of the tensor in the file.
      spec: of the tensor.
      dtype: floating dtype that values are rounded to.
    """

    place: Stored
    name: str
    spec: TensorSpec
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter, transposed if the file holds the transpose."""
        return self.spec.shape

    @functools.cached_property
    def _source(self) -> Any:
        return self.place.file.get_slice(self.name)

    def read(self, index: Index | None = None, dtype: Any = None) -> np.ndarray:
        """A part of the parameter; the rest of the tensor is not read.

        The part is filled piece by piece. Besides the part, the host holds one piece of 16 MiB, or
        one row of the tensor if that is larger.

        Args:
          index: of the part, in dimensions of the parameter; None for all of it.
          dtype: of the result, whose values were rounded to the parameter's dtype before; None for
            the parameter's dtype.

        Returns:
          a new array, contiguous.
        """
        index = index or tuple(slice(0, size) for size in self.shape)
        part = np.empty([each.stop - each.start for each in index], dtype or self.dtype)
        stored, rows = part, index
        if self.spec.transposed:
            stored, rows = part.T, index[::-1]
        first, rest = rows[0], rows[1:]
        # A float64 has the largest numbers of the formats.
        width = 8 * math.prod(each.stop - each.start for each in rest)
        step = max(1, _PIECE // max(1, width))
        for start in range(first.start, first.stop, step):
            stop = min(start + step, first.stop)
            piece = self._source[(slice(start, stop), *rest)].astype(self.dtype, copy=False)
            stored[start - first.start : stop - first.start] = piece
        return part
