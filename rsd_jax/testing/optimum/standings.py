"""Where verifiers stand between recursive rejection and the optimum."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rsd_jax.testing.drawn_trees import drawn_trees
from rsd_jax.testing.enumeration import OutcomeLaw, outcome_laws
from rsd_jax.testing.instances import Instance
from rsd_jax.testing.optimum.whole_tree import whole_tree_optimum
from rsd_jax.verifiers.base import Verifier
from rsd_jax.verifiers.recursive_rejection import RecursiveRejection

_NO_DISTANCE = 1e-8


@dataclasses.dataclass(frozen=True)
class Standings:
    """Expected tokens per block on one instance, under one rule; `str` is a table.

    Attributes:
      recursive_rejection: of recursive rejection.
      optimum: of the best lossless verifier.
      verifiers: of each verifier, by name.
    """

    recursive_rejection: float
    optimum: float
    verifiers: dict[str, float]

    @property
    def shares(self) -> dict[str, float]:
        """What part of the distance from recursive rejection to the optimum each verifier closes.

        Less than 0: below recursive rejection. More than 1: not lossless. NaN: no distance, that
        is, less than 1e-8.
        """
        distance = self.optimum - self.recursive_rejection
        if distance < _NO_DISTANCE:
            return dict.fromkeys(self.verifiers, float("nan"))
        return {
            name: (tokens - self.recursive_rejection) / distance
            for name, tokens in self.verifiers.items()
        }

    def __str__(self) -> str:
        ends = {"recursive rejection": self.recursive_rejection}
        tokens = {**ends, **self.verifiers, "optimum": self.optimum}
        width = max(map(len, tokens))
        lines = [f"{'':{width}}  tokens  share"]
        for name, value in tokens.items():
            share = f"{self.shares[name]:7.3f}" if name in self.verifiers else ""
            lines.append(f"{name:{width}}  {value:6.3f}{share}".rstrip())
        return "\n".join(lines)


def tokens_per_block(outcomes: OutcomeLaw) -> float:
    """Expected tokens of a block: those accepted, and the one that is emitted after them.

    Args:
      outcomes: of one instance, from `outcome_laws`.
    """
    return float(sum((accepted + 1) * law.sum() for accepted, law in enumerate(outcomes)))


def hold_against_optimum(
    verifiers: Mapping[str, Verifier], rule: Any, instance: Instance
) -> Standings:
    """Expected tokens of verifiers, of recursive rejection and of the optimum.

    Args:
      verifiers: by name; each must accept the rule's trees.
      rule: how trees are drawn, see `drawn_trees`.
      instance: as deep as the rule at least.

    Raises:
      ConfigError: scipy is missing, or the instance is too shallow.
      AssertionError: a verifier cannot be enumerated, see `outcome_laws`.
    """

    def of(verifier: Verifier) -> float:
        (outcomes,) = outcome_laws(verifier, rule, [instance])
        return tokens_per_block(outcomes)

    return Standings(
        recursive_rejection=of(RecursiveRejection()),
        optimum=whole_tree_optimum(drawn_trees(rule, instance.draft), instance),
        verifiers={name: of(verifier) for name, verifier in verifiers.items()},
    )
