"""One tree that a rule grows from a table."""

import jax
import jax.numpy as jnp

from rsd_jax.core.sampling import row_keys
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters import TreeRule
from rsd_jax.drafters.growth import grow_tree
from rsd_jax.drafters.tree_law import Table
from rsd_jax.testing.instances import log_tables, table_score_level


def grown(rule: TreeRule, draft: Table, temperature: float, seed: int = 0) -> DraftTree:
    """A tree of one row, as numpy arrays."""
    tree, _ = grow_tree(
        rule,
        table_score_level(rule.shape, log_tables(draft)),
        jnp.zeros((1, 0), jnp.int32),
        jnp.zeros((1,), jnp.int32),
        warp=make_warp(temperature),
        keys=row_keys(seed, jnp.arange(1)),
    )
    return jax.device_get(tree)
