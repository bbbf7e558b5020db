"""Parts of rows about programs on one device with random weights: `launch/accelerator.sh`."""

import dataclasses

SOURCE = "accelerator"
"""`Row.source` of the rows that have these parts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceRates:
    """What the device reaches at best, measured.

    Attributes:
      copy_bandwidth: bytes per second, read and written, of an addition in place.
      matmul_rate: floating point operations per second of products of square bfloat16 matrices.
    """

    copy_bandwidth: float
    matmul_rate: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockCost:
    """What a block costs besides its time.

    Attributes:
      compile_seconds: lowering and compiling prefill and blocks, or reading a compilation cache.
      bandwidth_fraction: least bytes that the passes of a block read, over the time of the block,
        over the copy bandwidth.
      realised_fraction_bytes: (t_ar / t_block) (1 + r L), with r by bytes read.
      peak_bytes: device memory of the program of a block: arguments, results and temporaries;
        null if the compiler does not say.
    """

    compile_seconds: float
    bandwidth_fraction: float
    realised_fraction_bytes: float
    peak_bytes: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeerBlock:
    """A block of another engine.

    Attributes:
      t_block: seconds per target call, prefill excluded.
    """

    t_block: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidePass:
    """A pass of the target over several nodes per row.

    Attributes:
      nodes: nodes of each row.
      t_pass: seconds of the pass.
      t_pass_ratio: seconds over those of a pass over one node, with the same batch and context,
        measured in turns.
    """

    nodes: int
    t_pass: float
    t_pass_ratio: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """A choice by the kind of device, and a block with another option.

    Attributes:
      choice: what is chosen, e.g. "nodes tested".
      option: the option that was timed, e.g. "reached".
      default: the option that is chosen on this device.
      t_option: seconds per block with the option.
      t_default: seconds per block with the default, measured in turns.
    """

    choice: str
    option: str
    default: str
    t_option: float
    t_default: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """A comparison of what two devices, or two methods, compute.

    Attributes:
      compared: rows of tokens, random words or laws that were compared.
      different: how many of them differ.
      agrees: whether every difference is below `tolerance`.
      tolerance: largest difference that rounding explains; null where differences are only
        reported.
      differences: of each row of tokens that differs, the margin between the two largest logits of
        the target at the first token that differs; of laws, the largest total variation.
    """

    compared: int
    different: int
    agrees: bool
    tolerance: float | None
    differences: list[float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time of a block goes, from a trace.

    Attributes:
      operations: seconds per block by operation of the compiled program, longest first; operations
        whose names differ only in a number are one.
      t_operations: seconds per block of all operations.
    """

    operations: dict[str, float]
    t_operations: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class DraftTraining:
    """The training of a packed draft on the target's stored log probabilities.

    Attributes:
      steps: optimiser steps.
      trained_tokens: labels in their windows, those of prompts included.
      training_rate: median of the tokens per second, without compilation and evaluation; null if
        every step was the first of a call.
      training_loss: nats per token, mean over the last steps.
      held_out: what the draft gives on held-out responses, by the names of `evaluate_stored`; empty
        if none are held out.
    """

    steps: int
    trained_tokens: int
    training_rate: float | None
    training_loss: float
    held_out: dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramText:
    """What the text of a compiled program for blocks shows, on one chip.

    Attributes:
      collectives: collectives per block, by "phase kind", e.g. "draft all-reduce".
      collective_bytes: bytes of their results, by the same names.
      small: collectives per block of at most 4096 bytes, which cost their latency.
      cache_copies: copies per block that have the size of a cache buffer.
      outer_copies: the same, once per call of `advance`.
      gathered: collectives that gather a whole weight or cache.
      row_loops: serial loops over the rows of a chip.
      host: instructions that talk to the host.
    """

    collectives: dict[str, int]
    collective_bytes: dict[str, int]
    small: int
    cache_copies: int
    outer_copies: int
    gathered: int
    row_loops: int
    host: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompiledBlock(ProgramText):
    """A program for blocks that was compiled for TPUs which were not attached.

    Attributes:
      topology: the slice of TPUs, e.g. "v5e:2x4".
      layers: of the target that was compiled.
      chip_bytes, prefill_bytes: memory of a chip during blocks and prefill: arguments, results,
        temporaries and code, with weights and caches of all layers.
      hbm_bytes: memory that a chip has.
      compile_seconds: lowering and compiling prefill and blocks.
      problems: what must not be, in words.
    """

    topology: str
    layers: int
    chip_bytes: int
    prefill_bytes: int
    hbm_bytes: int
    compile_seconds: float
    problems: list[str]
