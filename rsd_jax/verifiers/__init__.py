"""Verifiers. Adding one: a file in this folder and a line in the registry below."""

from rsd_jax.verifiers.base import Decision, TargetLaws, Verifier
from rsd_jax.verifiers.k_seq import KSeq
from rsd_jax.verifiers.recursive_rejection import RecursiveRejection

VERIFIERS = {"k_seq": KSeq, "recursive_rejection": RecursiveRejection}

__all__ = ["VERIFIERS", "Decision", "KSeq", "RecursiveRejection", "TargetLaws", "Verifier"]
