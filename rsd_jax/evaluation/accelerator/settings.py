"""What is measured on an accelerator: shapes, trees, contexts, batches, and how often."""

import dataclasses
from typing import Any

from rsd_jax.engine.methods import Method, build_method, method_of_tree
from rsd_jax.records.rows import config_hash

Tree = tuple[str, str, str | None]
"""Method, tree in words, and the verifier in place of the method's own or None."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes of all cells; the defaults are the measurement, `REHEARSAL` only shows that all runs.

    Attributes:
      shape, draft_shape: names of shapes, see `random_model`.
      dtype: of the random weights.
      peer_dtype: of the other engines' weights.
      temperature: of the target.
      context: committed tokens of each row, unless the context is varied.
      blocks: blocks per timed call.
      repeats: turns of every measurement.
      trees: methods at batch 1, in order of worth; autoregressive decoding comes before them.
      swift_lengths: draft lengths that SWIFT is forced to.
      self_trees: methods that draft with the target, measured last.
      varied: trees for which batch and context are varied.
      couplings: trees that are also measured with the verifier "coupling".
      batches, long_contexts: other batches and contexts for `varied`.
      reads: methods with which reads of the committed prefix are compared.
      peer_length: draft length of assisted generation.
      peer_tokens: two numbers of new tokens; the time between them is divided by the target calls.
      nodes: nodes of a pass, ascending from 1.
      wide_nodes: nodes of the second curve over contexts and batches.
      curve_contexts, curve_batches: contexts and batches of passes.
      skip_sets: number of sets of skipped sub-layers.
      chunks: chunk lengths of reads of the committed prefix that are compared.
      checked: methods whose tokens are compared; None for all in the record.
      megabytes: size of the copy.
      matrix: size of the matrices.
    """

    shape: str = "llama2_7b"
    draft_shape: str = "llama2_115m"
    dtype: str = "bfloat16"
    peer_dtype: str = "bfloat16"
    temperature: float = 0.3
    context: int = 512
    blocks: int = 8
    repeats: int = 7
    trees: tuple[Tree, ...] = (
        ("sd", "4", None),
        ("rsd_c", "2-2-1", None),
        ("rsd_s", "6x5", None),
        ("spectr", "3x4", None),
    )
    swift_lengths: tuple[int, ...] = (4, 10, 25)
    self_trees: tuple[Tree, ...] = (
        ("self_sd", "4", None),
        ("self_rsd_c", "2-2-1", None),
        ("self_rsd_s", "6x5", None),
        ("self_spectr", "3x4", None),
    )
    varied: tuple[Tree, ...] = (
        ("sd", "4", None),
        ("rsd_c", "2-2-1", None),
        ("rsd_s", "6x5", None),
    )
    couplings: tuple[Tree, ...] = (
        ("sd", "4", "coupling"),
        ("rsd_c", "2-2-1", "coupling"),
        ("rsd_s", "6x5", "coupling"),
    )
    batches: tuple[int, ...] = (4, 16)
    long_contexts: tuple[int, ...] = (4096,)
    reads: tuple[Tree, ...] = (("ar", "-", None), ("rsd_s", "6x5", None))
    peer_length: int = 4
    peer_tokens: tuple[int, int] = (16, 80)
    nodes: tuple[int, ...] = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
    wide_nodes: int = 16
    curve_contexts: tuple[int, ...] = (1024, 2048, 4096, 8192)
    curve_batches: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    skip_sets: int = 8
    chunks: tuple[int, ...] = (256, 1024)
    checked: tuple[str, ...] | None = None
    megabytes: int = 4096
    matrix: int = 8192

    def hash_of(self, part: str, cell: str) -> str:
        """`config_hash` of a cell: rows of equal cells with equal settings have the same."""
        values: dict[str, Any] = dataclasses.asdict(self)
        return config_hash(values | {"part": part, "cell": cell})


REHEARSAL = Settings(
    shape="tiny_target",
    draft_shape="tiny_draft",
    dtype="float32",
    peer_dtype="float32",
    context=40,
    blocks=2,
    repeats=1,
    trees=(("sd", "2", None),),
    swift_lengths=(2,),
    self_trees=(),
    varied=(("sd", "2", None),),
    couplings=(),
    batches=(),
    long_contexts=(),
    reads=(("ar", "-", None),),
    peer_length=2,
    peer_tokens=(2, 18),
    nodes=(1, 4),
    wide_nodes=4,
    curve_contexts=(),
    curve_batches=(2,),
    skip_sets=2,
    chunks=(),
    checked=("ar",),
    megabytes=1,
    matrix=64,
)
"""Tiny shapes and few cells, to see on any machine that every part runs. Its times mean nothing."""


def method_of(tree: Tree) -> Method:
    """The method of a tree.

    Raises:
      ConfigError: see `method_of_tree`.
    """
    name, words, verifier = tree
    return method_of_tree(name, words, verifier=verifier)


def forced_swift(length: int) -> Method:
    """SWIFT that drafts exactly `length` tokens, three candidates at each depth.

    Random weights are never confident, so the confidence decides nothing here.
    """
    return build_method(
        "swift",
        length=length,
        stop_below=0.0,
        confidences=(0.0,),
        counts=(3, 3),
        greedy_counts=(3, 3),
    )
