"""Verifiers. To add one, add a file in this folder and a line in the registry below."""

from typing import Any

from rsd_jax.verifiers.base import Decision, Reads, Stops, TargetLaws, Verifier
from rsd_jax.verifiers.coupling import Coupling
from rsd_jax.verifiers.k_seq import KSeq
from rsd_jax.verifiers.match import Match
from rsd_jax.verifiers.recursive_rejection import RecursiveRejection
from rsd_jax.verifiers.stops import StopVerifier
from rsd_jax.verifiers.traversal import Block, Traversal
from rsd_jax.verifiers.walk import NodeVerifier, Verdict

VERIFIERS: dict[str, type[Any]] = {
    "block": Block,
    "coupling": Coupling,
    "k_seq": KSeq,
    "match": Match,
    "recursive_rejection": RecursiveRejection,
    "traversal": Traversal,
}
"""By name, as `verifier` of `build_method` takes them."""

__all__ = [
    "VERIFIERS",
    "Block",
    "Coupling",
    "Decision",
    "KSeq",
    "Match",
    "NodeVerifier",
    "Reads",
    "RecursiveRejection",
    "StopVerifier",
    "Stops",
    "TargetLaws",
    "Traversal",
    "Verdict",
    "Verifier",
]
