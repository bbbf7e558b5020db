"""What the passes of a block cost on this machine."""

import dataclasses

import numpy as np

from rsd_jax.core.tree import TreeShape
from rsd_jax.core.types import LoadedModel
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.evaluation.passes import pass_medians

NODES = (1, 2, 3, 5, 9, 17, 33, 65)
"""Sizes of passes that are timed; those between are interpolated."""


@dataclasses.dataclass(frozen=True, eq=False)
class BlockCosts:
    """Seconds of passes by their number of nodes, for one batch size and context.

    Between the measured sizes seconds are interpolated, and beyond the last one extrapolated in
    proportion to the nodes. A pass over more nodes never counts as faster than one over fewer:
    where noise says so, the larger number stands.

    Attributes:
      nodes: i32[S], ascending.
      draft: f64[S], seconds of a pass of the draft over so many nodes.
      target: f64[S], the same of the target.

    Raises:
      ConfigError: the sizes do not ascend from at least 1, or an array has another length or
        numbers that are not positive.
    """

    nodes: np.ndarray
    draft: np.ndarray
    target: np.ndarray

    def __post_init__(self):
        nodes = np.asarray(self.nodes)
        if nodes.ndim != 1 or not len(nodes) or nodes[0] < 1 or (np.diff(nodes) <= 0).any():
            raise ConfigError(f"nodes={self.nodes!r} must hold ascending integers of at least 1")
        for name in ("draft", "target"):
            seconds = np.asarray(getattr(self, name), np.float64)
            if seconds.shape != nodes.shape or not (seconds > 0.0).all():
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} must hold positive seconds, one for each of "
                    f"nodes={self.nodes!r}"
                )
            object.__setattr__(self, name, np.maximum.accumulate(seconds))

    def block_seconds(self, shape: TreeShape) -> float:
        """Seconds of the passes of one block: one pass of the draft per level, one of the target.

        What is not a pass (drawing, verifying, committing) is not counted.
        """
        # The pass at the root takes two tokens, see `ModelDraftState`.
        widths = [width + (level == 0) for level, width in enumerate(shape.widths[:-1])]
        drafting = sum(self._at(self.draft, width) for width in widths)
        return drafting + self._at(self.target, shape.num_nodes)

    def threshold(
        self, *, width: int, length: int, tokens_per_second: float | None = None
    ) -> float:
        """An estimate of the probability above which a node is worth its seconds.

        A node that is accepted with probability v adds v tokens and some seconds. It raises the
        rate if v over these seconds is above the rate without the node. For the option `threshold`
        of `dyspec`, `beam` and `mixed_beam`, which take the draft's probability for v.

        A level's draft pass is shared out among its nodes, although it takes as long for fewer, and
        the target's seconds are taken as rising evenly, although passes have few widths. A result
        of 1 or more says that no node pays.

        Args:
          width, length: of the tree.
          tokens_per_second: the rate to raise, of one row; by default that of autoregressive
            decoding. At the best threshold it is the rate that the threshold leads to.

        Raises:
          ConfigError: a number is not positive.
        """
        nodes = positive_integer("width", width) * positive_integer("length", length)
        alone = self._at(self.target, 1)
        rate = 1.0 / alone if tokens_per_second is None else tokens_per_second
        if not rate > 0.0:
            raise ConfigError(f"tokens_per_second={tokens_per_second!r} must be positive")
        of_target = (self._at(self.target, 1 + nodes) - alone) / nodes
        return rate * (self._at(self.draft, width) / width + of_target)

    def _at(self, seconds: np.ndarray, nodes: int) -> float:
        within = float(np.interp(nodes, self.nodes, seconds))
        return within * max(1.0, nodes / float(self.nodes[-1]))


def measure_costs(
    target: LoadedModel,
    draft: LoadedModel,
    *,
    context: int = 256,
    batch_size: int = 1,
    max_nodes: int = 64,
    repeats: int = 5,
) -> BlockCosts:
    """Times passes of both models in turns; a program is compiled for each model and size.

    Args:
      target, draft: with their parameters where they will run.
      context: committed tokens of each row.
      batch_size: rows.
      max_nodes: the most nodes of a pass that will be asked for.
      repeats: turns; the median counts.

    Raises:
      ConfigError: a number is not a positive integer, or a model has too few positions.
    """
    for name, value in (("context", context), ("batch_size", batch_size), ("repeats", repeats)):
        positive_integer(name, value)
    needed = [size for size in NODES if size < positive_integer("max_nodes", max_nodes)]
    sizes = [*needed, next((size for size in NODES if size >= max_nodes), max_nodes)]
    contestants = [(loaded, nodes) for nodes in sizes for loaded in (draft, target)]
    medians = pass_medians(contestants, batch=batch_size, context=context, repeats=repeats)
    return BlockCosts(np.asarray(sizes), np.asarray(medians[::2]), np.asarray(medians[1::2]))
