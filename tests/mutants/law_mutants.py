"""Every known fault of the output law, and the check that detects it.

A check that has never failed proves little. The tests inject each entry of `LAW_MUTANTS` and
assert that the function `check` fails with the fault and passes without it. `median_tv` is the
total variation between the faulty output law and the target's, the median over
`mutant_instances(entry)`; for the fault that only sampling shows, the total variation of a block's
law over the dense instances. Faults that change no law, such as lost draft state, are not here.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters import TREE_RULES
from rsd_jax.drafters.tree_law import Table
from rsd_jax.testing.candidate_trees import CandidateTrees
from rsd_jax.testing.drawn_trees import MixedSiblings, PaddedSiblings
from rsd_jax.testing.instances import KINDS, Instance, log, random_instances
from rsd_jax.verifiers import VERIFIERS
from rsd_jax.verifiers.base import Verifier
from tests.mutants.faulty_verifiers import (
    FaultyCoupling,
    FaultyRejection,
    FaultySelection,
    LawOfTheChain,
    Misinformed,
    PointsKept,
    Rearranged,
    RearrangedStops,
    SharedKey,
    UnwarpedBonus,
    ascending_q,
    first_copy,
    is_new,
    likely,
    token_id,
)


def _each(table: Table, change: Callable[[np.ndarray], np.ndarray]) -> Table:
    weights = [change(laws) for laws in table]
    return tuple(w / w.sum(-1, keepdims=True) for w in weights)


def top_two(table: Table) -> Table:
    """Samples from the two most likely tokens only."""
    return _each(table, lambda q: np.where(np.argsort(np.argsort(-q)) < 2, q, 0.0))


def most_likely(table: Table) -> Table:
    """Always proposes the most likely token."""
    return _each(table, lambda q: (q.argmax(-1)[:, None] == np.arange(q.shape[-1])) * 1.0)


def rounded_logits(table: Table) -> Table:
    """Samples from bfloat16 logits of magnitude 10 and more."""

    def change(q: np.ndarray) -> np.ndarray:
        return np.exp((log(q) + 16.0).astype(ml_dtypes.bfloat16).astype(np.float64) - 16.0)

    return _each(table, change)


@dataclasses.dataclass(frozen=True)
class LawMutant:
    """One fault of the output law, in a verifier or in the draft's laws that it gets.

    Attributes:
      name: unique.
      description: the fault in words.
      verifier: the faulty verifier, or a correct verifier if the fault is elsewhere.
      right: the verifier without the fault.
      rules: how trees are drawn (K = 2 and K = 3); all of the same shape.
      vocab_size: V.
      drawn_from: maps the draft's laws to the laws that are really sampled; None if they are equal.
      coins: slots that share a uniform, see `outcome_laws`.
      check: the function that must detect the fault.
      median_tv: measured, one per rule, see the module.
    """

    name: str
    description: str
    verifier: Verifier
    right: Verifier
    rules: tuple[Any, ...]
    median_tv: tuple[float, ...]
    vocab_size: int = 4
    drawn_from: Callable[[Table], Table] | None = None
    coins: Sequence[int] | None = None
    check: str = "assert_lossless"

    @property
    def options(self) -> dict:
        """Keywords of `outcome_laws` for faults outside the verifier."""
        return {"drawn_from": self.drawn_from, "coins": self.coins}


def mutant_instances(mutant: LawMutant) -> list[Instance]:
    """The 28 instances that a mutant is measured on, four of each kind."""
    depth = mutant.rules[0].shape.depth
    return random_instances(mutant.vocab_size, depth, 4 * len(KINDS), seed=7)


_RRS, _K_SEQ = VERIFIERS["recursive_rejection"], VERIFIERS["k_seq"]
_WITHOUT, _CHAINS = TREE_RULES["constant_branching"], TREE_RULES["independent_chains"]
_DISTINCT = (PaddedSiblings(_WITHOUT((2,)), 3), _WITHOUT((3,)))
_IID = (PaddedSiblings(_CHAINS(2, 1), 3), _CHAINS(3, 1))

_POINT, _SAMPLED = SiblingLaw.POINT, SiblingLaw.WITHOUT_REPLACEMENT
# The point mass before and after sampled siblings; K = 2 in the shape of K = 3.
_MIXED = (
    PaddedSiblings(MixedSiblings((2,), (_POINT, _SAMPLED)), 3),
    MixedSiblings((3,), (_POINT, _SAMPLED, _SAMPLED)),
    MixedSiblings((3,), (_SAMPLED, _POINT, _SAMPLED)),
)

_OF_REJECTION: dict[str, Any] = {"right": _RRS(), "rules": _DISTINCT}
# Trees that stop early, and classes of one, two and three nodes; K = 2 in the same shape.
_OF_CANDIDATES: dict[str, Any] = {
    "right": _RRS(),
    "vocab_size": 3,
    "rules": tuple(
        CandidateTrees(2, 0.3, (0.7, 0.4), counts, greedy_counts=(1, 2, 3))
        for counts in ((1, 2, 2), (1, 2, 3))
    ),
}
_OF_K_SEQ: dict[str, Any] = {"right": _K_SEQ(), "rules": _IID}


def _faulty_rejection(name: str, description: str, *median_tv: float, **fields) -> LawMutant:
    verifier = FaultyRejection(fault=name)
    fields = {"verifier": verifier, "median_tv": median_tv, **_OF_REJECTION, **fields}
    return LawMutant(name, description, **fields)


def _faulty_coupling(fault: str, description: str, median_tv: float, **fields) -> LawMutant:
    fields = {"verifier": FaultyCoupling(fault=fault), "rules": (_WITHOUT((2, 2)),), **fields}
    return LawMutant(
        name=f"coupling, {fault}",
        description=description,
        right=VERIFIERS["coupling"](),
        median_tv=(median_tv,) * len(fields["rules"]),
        vocab_size=3,
        **fields,
    )


LAW_MUTANTS: tuple[LawMutant, ...] = (
    LawMutant(
        "raw q returned",
        "the draft samples from its two most likely tokens, the verifier is told the raw q",
        verifier=_RRS(),
        drawn_from=top_two,
        median_tv=(0.1332, 0.1332),
        **_OF_REJECTION,
    ),
    LawMutant(
        "bfloat16 draw",
        "the draft samples from bfloat16 logits and reports float32 ones",
        verifier=_RRS(),
        drawn_from=rounded_logits,
        median_tv=(0.0016, 0.0016),
        **_OF_REJECTION,
    ),
    LawMutant(
        "greedy draft, softmax q",
        "the draft proposes its most likely token and reports its softmax",
        verifier=_RRS(),
        drawn_from=most_likely,
        median_tv=(0.2473, 0.2473),
        **_OF_REJECTION,
    ),
    LawMutant(
        "key shared by draft and acceptance",
        "the uniforms of acceptance come from the key that drew the tree",
        verifier=SharedKey(),
        right=_RRS(),
        rules=(_WITHOUT((2, 2)),),
        vocab_size=3,
        median_tv=(0.096,),
        check="assert_sampled_law",
    ),
    LawMutant(
        "one uniform for all siblings",
        "every sibling is tested with the same uniform",
        verifier=_RRS(),
        coins=(0, 1, 1, 1),
        median_tv=(0.0, 0.0008),
        **_OF_REJECTION,
    ),
    _faulty_rejection(
        "not strict",
        "accepts if U q <= r: at U = 0 a token that the target cannot emit",
        0.0,
        0.0,
        check="assert_strict",
    ),
    LawMutant(
        "siblings sorted by id",
        "siblings are tested in the order of their token ids",
        verifier=Rearranged(_RRS(), order=token_id),
        median_tv=(0.1634, 0.3449),
        **_OF_REJECTION,
    ),
    LawMutant(
        "siblings sorted by q",
        "siblings are tested in the order of their probability",
        verifier=Rearranged(_RRS(), order=ascending_q),
        median_tv=(0.2124, 0.4040),
        **_OF_REJECTION,
    ),
    LawMutant(
        "unlikely siblings pruned",
        "drawn siblings with q < 1/4 are deleted",
        verifier=Rearranged(_RRS(), keep=likely),
        median_tv=(0.0933, 0.0983),
        **_OF_REJECTION,
    ),
    LawMutant(
        "copies skipped",
        "i.i.d. siblings: a repeated token is not tested, nor its q subtracted",
        verifier=Rearranged(_RRS(), keep=is_new),
        right=_RRS(),
        rules=_IID,
        median_tv=(0.0051, 0.0128),
    ),
    LawMutant(
        "unconditional q",
        "siblings without replacement are held against q_1 throughout",
        verifier=Misinformed(_RRS(), SiblingLaw.IID),
        median_tv=(0.0121, 0.0326),
        **_OF_REJECTION,
    ),
    LawMutant(
        "a point mass held to be sampled",
        "a proposed token is tested as if it were drawn from q",
        verifier=Misinformed(_RRS(), SiblingLaw.WITHOUT_REPLACEMENT),
        right=_RRS(),
        rules=_MIXED[:2],
        median_tv=(0.2473, 0.2473),
    ),
    LawMutant(
        "a point mass not excluded",
        "siblings drawn without a proposed token are held against a law that still has it",
        verifier=PointsKept(),
        right=_RRS(),
        rules=_MIXED,
        median_tv=(0.0911, 0.1014, 0.0),
    ),
    _faulty_rejection(
        "unconditional q in the test", "the test uses q_1, the residual q_k", 0.0, 0.0318
    ),
    _faulty_rejection(
        "unconditional q in the residual", "the residual uses q_1, the test q_k", 0.0, 0.0
    ),
    _faulty_rejection(
        "p in every test", "siblings are tested against p, not the residual", 0.0565, 0.0725
    ),
    _faulty_rejection(
        "unnormalised residual in the test",
        "siblings are tested against (r - q)+ itself",
        0.0121,
        0.0188,
    ),
    _faulty_rejection(
        "all rejected, p emitted", "the token after rejections is drawn from p", 0.0869, 0.0564
    ),
    _faulty_rejection(
        "residual of raw p and q",
        "the token after rejections is drawn from N[(p - q)+]",
        0.0161,
        0.0085,
    ),
    LawMutant(
        "unwarped bonus",
        "the bonus token ignores the target's temperature",
        verifier=UnwarpedBonus(_RRS()),
        median_tv=(0.0966, 0.1084),
        **_OF_REJECTION,
    ),
    LawMutant(
        "unwarped bonus of a candidate tree",
        "SWIFT as released: the bonus token ignores temperature, top-k and top-p",
        verifier=UnwarpedBonus(_RRS()),
        median_tv=(0.0568, 0.0636),
        **_OF_CANDIDATES,
    ),
    LawMutant(
        "a sibling's correction by the chain's law",
        "SWIFT as released: after accepting a sibling the law of the chain's next token is "
        "subtracted (.15 on the worst instance, 12 of 28 show it)",
        verifier=LawOfTheChain(_RRS()),
        median_tv=(0.0, 0.0),
        **_OF_CANDIDATES,
    ),
    LawMutant(
        "rho is 1",
        "K-SEQ's division factor is below rho*",
        verifier=FaultySelection(fault="rho is 1"),
        median_tv=(0.1039, 0.1488),
        **_OF_K_SEQ,
    ),
    LawMutant(
        "initial K",
        "K-SEQ uses the number of drafts where fewer are alive",
        verifier=FaultySelection(fault="initial K"),
        right=_K_SEQ(),
        rules=(_CHAINS(2, 2),),
        vocab_size=3,
        median_tv=(0.0194,),
    ),
    LawMutant(
        "copies dropped",
        "K-SEQ tests each token once and counts it once",
        verifier=Rearranged(_K_SEQ(), keep=is_new),
        median_tv=(0.01, 0.024),
        **_OF_K_SEQ,
    ),
    LawMutant(
        "merged, tested consecutively",
        "K-SEQ tests all copies of a token in a row (the same for K = 2)",
        verifier=Rearranged(_K_SEQ(), order=first_copy),
        median_tv=(0.0, 0.0032),
        **_OF_K_SEQ,
    ),
    LawMutant(
        "merged, tested by id",
        "K-SEQ tests tokens in the order of their ids",
        verifier=Rearranged(_K_SEQ(), order=token_id),
        median_tv=(0.0394, 0.0649),
        **_OF_K_SEQ,
    ),
    _faulty_coupling("others not rescaled", "all other sub-laws keep their mass", 0.0796),
    _faulty_coupling(
        "rescaled by 1 - s", "the other sub-laws are scaled as if no mass had moved", 0.1503
    ),
    _faulty_coupling("a final token from p", "the token that ends a block is drawn from p", 0.0832),
    _faulty_coupling(
        "unconditional q", "a child's law keeps the tokens of earlier siblings", 0.0852
    ),
    _faulty_coupling(
        "s from the unscaled sub-law", "s forgets the nodes taken since the parent was", 0.0329
    ),
    _faulty_coupling(
        "siblings sorted by id",
        "siblings without replacement are taken in the order of their token ids",
        0.2335,
        verifier=RearrangedStops(VERIFIERS["coupling"](), order=token_id),
        rules=_DISTINCT[:1],
    ),
)
