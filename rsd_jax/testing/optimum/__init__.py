"""The optimum: the most that any lossless verifier can accept of what a rule draws.

A lossless verifier that stops at prefix u with probability W(u) - sum_y W(uy) can emit y there at
most with probability W(u) p(y|u), W(u) being the probability that u is accepted. So W(uy) is at
most W(u) p(y|u), and nothing else binds a verifier but the tree that was drawn.

`whole_tree_optimum` is exact on any tree that can be enumerated, `one_node_optimum_iid` on the
children of one node of any vocabulary; `hold_against_optimum` says where verifiers stand.
"""

from rsd_jax.testing.optimum.standings import Standings, hold_against_optimum, tokens_per_block
from rsd_jax.testing.optimum.whole_tree import whole_tree_optimum
from rsd_jax.verifiers.optimum import (
    one_node_optimum_iid,
    one_node_optimum_without_replacement,
)

__all__ = [
    "Standings",
    "hold_against_optimum",
    "one_node_optimum_iid",
    "one_node_optimum_without_replacement",
    "tokens_per_block",
    "whole_tree_optimum",
]
