"""Tree shapes and masks, against loops over lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.tree import DenseLaws, PointLaws, TreeShape, ancestor_mask
from rsd_jax.core.types import NO_NODE
from rsd_jax.errors import ConfigError


def test_shape_of_a_branching():
    shape = TreeShape.from_branching((2, 3, 1))
    assert shape.widths == (1, 2, 6, 6)
    assert shape.depth == 3
    assert (shape.num_nodes, shape.num_internal, shape.max_siblings) == (15, 9, 3)
    assert shape.starts == (0, 1, 3, 9)
    assert shape.level(2) == slice(3, 9)
    np.testing.assert_array_equal(shape.depths, [0, 1, 1] + [2] * 6 + [3] * 6)
    np.testing.assert_array_equal(
        shape.static_parents, [NO_NODE, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8]
    )
    assert shape.static_parents.dtype == np.int32
    assert hash(shape) == hash(TreeShape.from_branching((2, 3, 1)))


def test_shape_of_a_lone_root():
    shape = TreeShape.from_branching(())
    assert (shape.depth, shape.num_nodes, shape.num_internal, shape.max_siblings) == (0, 1, 1, 1)
    np.testing.assert_array_equal(ancestor_mask(shape, jnp.zeros((2, 1), jnp.int32)), [[[True]]])


def test_shape_of_any_parents():
    """In any order in which parents stand before children; slots are level by level."""
    shape = TreeShape.from_parents([-1, 0, 1, 0, 3, 2, 3, 0, np.int64(3)])
    assert shape.widths == (1, 3, 4, 1)
    assert shape.child_counts == ((3,), (1, 3, 0), (1, 0, 0, 0))
    np.testing.assert_array_equal(shape.static_parents, [NO_NODE, 0, 0, 0, 1, 2, 2, 2, 4])
    np.testing.assert_array_equal(shape.parent_slots, [0, 1, 2, 4])
    np.testing.assert_array_equal(shape.parent_index, [0, 1, 2, 4, 3, 4, 4, 4, 4])
    assert (shape.num_internal, shape.max_siblings, shape.branching) == (8, 3, None)
    assert shape.words == "3-1.3.0-1.0.0.0"
    mask = ancestor_mask(shape, jnp.zeros((2, shape.num_nodes), jnp.int32))
    np.testing.assert_array_equal(mask, _oracle(shape.static_parents[None]))
    assert TreeShape.from_parents([-1, 0, 0, 1, 1, 2, 2]) == TreeShape.from_branching((2, 2))


def test_shape_of_a_backbone():
    shape = TreeShape.backbone(3, 2)
    assert shape == TreeShape.from_parents([-1, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(shape.parent_slots, [0, 1])
    assert TreeShape.backbone(3, 1) == TreeShape.from_branching((3,))


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ([0, 0], r"parents\[0\]=0 must be -1: the first node is the root"),
        ([-1, 0, -1], r"parents\[2\]=-1 is a second root"),
        ([-1, 0, 3, 2], r"parents\[2\]=3 is not before its own place.* between 0 and 1"),
        ([-1, 1], r"parents\[1\]=1 is not before its own place"),
        ([-1, 0, -2], r"parents\[2\]=-2 is not before"),
        ([-1, 0, 0.5], r"parents\[2\]=0.5 must be an integer"),
        ([-1, 0, True], r"parents\[2\]=True must be an integer"),
        ([-1], r"parents=\[-1\] must be a list of 2 to 65536 nodes"),
        ("-100", "must be a list"),
        (7, "parents=7 must be a list"),
        ([-1] + [0] * 2**16, "must be a list of 2 to 65536 nodes"),
    ],
)
def test_parents_that_are_no_tree(parents, message):
    with pytest.raises(ConfigError, match=message):
        TreeShape.from_parents(parents)


def test_shape_whose_parents_the_data_decide():
    shape = TreeShape((1, 3, 3))
    assert shape.static_parents is None
    assert (shape.num_internal, shape.max_siblings) == (4, 3)


@pytest.mark.parametrize("branching", [(0,), (2, -1), (1.5,), ("2",)])
def test_branching_that_is_none(branching):
    with pytest.raises(ConfigError, match="integers of at least 1"):
        TreeShape.from_branching(branching)


def _oracle(parents: np.ndarray) -> np.ndarray:
    slots = parents.shape[1]
    mask = np.zeros((len(parents), slots, slots), bool)
    for row in range(len(parents)):
        for i in range(slots):
            j = i
            while j != NO_NODE:
                mask[row, i, j] = True
                j = parents[row, j]
    return mask


def test_ancestor_mask_of_a_branching_is_a_constant():
    shape = TreeShape.from_branching((2, 2, 1))
    mask = ancestor_mask(shape, jnp.zeros((3, shape.num_nodes), jnp.int32))
    assert isinstance(mask, np.ndarray)
    np.testing.assert_array_equal(mask, _oracle(shape.static_parents[None]))


def test_ancestor_mask_follows_the_data():
    shape, rng = TreeShape((1, 3, 3, 2)), np.random.default_rng(0)
    parents = np.full((5, shape.num_nodes), NO_NODE, np.int32)
    for level in range(1, 4):
        above, here = shape.level(level - 1), shape.level(level)
        parents[:, here] = rng.integers(above.start, above.stop, (5, shape.widths[level]))
    mask = jax.jit(lambda p: ancestor_mask(shape, p))(parents)
    np.testing.assert_array_equal(mask, _oracle(parents))


def test_laws_at_a_node():
    dense = DenseLaws(logprobs=jnp.log(jnp.asarray([[0.5, 0.5], [0.25, 0.75]])))
    np.testing.assert_allclose(jnp.exp(dense.at(jnp.asarray(1))), [0.25, 0.75], rtol=1e-6)
    point = PointLaws(proposals=jnp.asarray([2, 0], jnp.int32), vocab_size=3)
    np.testing.assert_array_equal(jnp.exp(point.at(jnp.asarray(0))), [0.0, 0.0, 1.0])
    np.testing.assert_array_equal(jnp.exp(point.at(jnp.asarray(1))), [1.0, 0.0, 0.0])
