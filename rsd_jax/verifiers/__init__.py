"""Verifiers. To add one, add a file in this folder and a line in the registry below."""

from typing import Any

from rsd_jax.verifiers.base import Decision, Reads, TargetLaws, Verifier
from rsd_jax.verifiers.k_seq import KSeq
from rsd_jax.verifiers.recursive_rejection import RecursiveRejection
from rsd_jax.verifiers.walk import NodeVerifier, Verdict

VERIFIERS: dict[str, type[Any]] = {"k_seq": KSeq, "recursive_rejection": RecursiveRejection}

__all__ = [
    "VERIFIERS",
    "Decision",
    "KSeq",
    "NodeVerifier",
    "Reads",
    "RecursiveRejection",
    "TargetLaws",
    "Verdict",
    "Verifier",
]
