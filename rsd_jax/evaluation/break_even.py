"""Whether drafting with the target itself can pay."""

import warnings

_FAR_BELOW = 0.8


def warn_if_far_below(name: str, tree: str, mbsu: float) -> None:
    """Warns if the blocks of a run cost far more target passes than they produced tokens.

    A block with L draft passes, each of which reads the share k of the target, costs 1 + k L target
    passes where memory bounds the time. Drafting pays if a block produces more tokens than that.

    Args:
      name, tree: of the method.
      mbsu: tokens over the cost of all passes, in target passes; 1 is the break-even.
    """
    if mbsu < _FAR_BELOW:
        warnings.warn(
            f"{name} {tree} cannot pay here: it produced {mbsu:.2f} tokens for the cost of one "
            "target pass, where autoregressive decoding produces 1. Search for a better skip set, "
            "draft fewer tokens, or use a draft model; see docs/evaluation.md, when self-drafting "
            "pays",
            stacklevel=2,
        )
