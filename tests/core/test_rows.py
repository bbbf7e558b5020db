"""Writes at a position of each row."""

import jax
import numpy as np
import pytest

from rsd_jax.core.rows import write_rows


@pytest.mark.parametrize("rows", [1, 3, 65], ids=["one row", "unrolled", "vmapped"])
@pytest.mark.parametrize("axis", [1, 2])
def test_each_row_is_written_at_its_own_place(rows, axis):
    rng = np.random.default_rng(rows)
    buffer = rng.normal(size=(rows, 5, 6)).astype(np.float32)
    shape = list(buffer.shape)
    shape[axis] = 2
    update = rng.normal(size=shape).astype(np.float32)
    start = rng.integers(0, buffer.shape[axis] - 1, rows).astype(np.int32)
    expected = buffer.copy()
    for row, first in enumerate(start):
        place = (
            (row, slice(first, first + 2))
            if axis == 1
            else (row, slice(None), slice(first, first + 2))
        )
        expected[place] = update[row]
    found = jax.jit(write_rows, static_argnames="axis")(buffer, update, start, axis=axis)
    np.testing.assert_array_equal(found, expected)
