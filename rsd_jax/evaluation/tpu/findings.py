"""What the text of a compiled program shows: collectives, copies, loops over rows."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from rsd_jax.records.device_parts import ProgramText

_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%[\w.\-]+ = (.*?) ([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"([a-z]+\d*[a-z\d]*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|body|to_apply|true_computation|false_computation)=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%([\w.\-]+)")
_PHASE = re.compile(r'op_name="[^"]*?/while/body/(?:[^"/]*/)?(draft|score|verify|commit)\b')
_LEVELS = re.compile(r'op_name="[^"]*/draft_steps/while"')  # the loop over the levels of a draft
_LIMIT = re.compile(r"constant\((\d+)\)")
_ON_CHIP = "S(1)"  # the layout of arrays in the memory beside the arithmetic units

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
_COPIES = ("copy", "copy-start", "transpose", "concatenate", "pad", "reverse")
_HOST = ("infeed", "outfeed", "send", "recv")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
_SMALL = 4096  # bytes up to which a collective costs its latency, not its data


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
      op: name of the operation.
      result: text of the result's shape.
      text: the line.
    """

    op: str
    result: str
    text: str

    @property
    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Element type and sizes of every array of the result."""
        found = _SHAPE.findall(self.result)
        return [(kind, tuple(int(n) for n in sizes.split(",") if n)) for kind, sizes in found]

    @property
    def num_bytes(self) -> int:
        """Bytes of the largest array of the result."""
        sizes = [_BYTES.get(kind, 4) * math.prod(shape) for kind, shape in self.shapes]
        return max(sizes, default=0)


class Program:
    """The instructions of a compiled program, by computation."""

    def __init__(self, text: str):
        self._computations: dict[str, list[Instruction]] = {}
        self._entry, current = "", []
        for line in text.splitlines():
            if heading := _COMPUTATION.match(line):
                current = self._computations.setdefault(heading[2], [])
                self._entry = heading[2] if heading[1] else self._entry
            elif found := _INSTRUCTION.match(line):
                current.append(Instruction(found[2], found[1], line))

    def everything(self) -> Iterator[tuple[Instruction, int]]:
        """All instructions that the program reaches; see `inside`."""
        return self.inside(self._entry)

    def blocks(self) -> Iterator[tuple[Instruction, int]]:
        """The instructions of one block: of the largest loop of the program's entry."""
        loops = [each for each in self._computations[self._entry] if each.op == "while"]
        bodies = [
            match[1] for each in loops if (match := re.search(r"body=%([\w.\-]+)", each.text))
        ]
        return self.inside(max(bodies, key=lambda name: sum(1 for _ in self.inside(name))))

    def inside(self, name: str, times: int = 1) -> Iterator[tuple[Instruction, int]]:
        """The instructions of a computation and of those it calls.

        Yields:
          the instruction, and how often it runs: the product of the lengths of the loops around
          it; a loop of unknown length counts once.
        """
        for each in self._computations.get(name, ()):
            yield each, times
            length = self.length(each) or 1 if each.op == "while" else 1
            branches = _BRANCHES.search(each.text)
            listed = re.findall(r"%([\w.\-]+)", branches[1]) if branches else []
            for called in [*_CALLED.findall(each.text), *listed]:
                yield from self.inside(called, times * length)

    def length(self, loop: Instruction) -> int | None:
        """The number of turns of a loop that counts up to a constant, or None."""
        if match := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.text):
            return int(match[1])
        condition = _CONDITION.search(loop.text)
        lines = self._computations.get(condition[1], []) if condition else []
        limits = [match[1] for each in lines if (match := _LIMIT.search(each.text))]
        compares = [each for each in lines if each.op == "compare"]
        simple = len(limits) == 1 and len(compares) == 1 and "direction=LT" in compares[0].text
        return int(limits[0]) if simple else None


def _body(loop: Instruction) -> str:
    """The computation that a loop repeats."""
    found = re.search(r"body=%([\w.\-]+)", loop.text)
    assert found is not None
    return found[1]


def read_program(
    text: str, *, caches: Sequence[tuple[int, ...]], whole: Sequence[tuple[int, ...]], rows: int
) -> ProgramText:
    """Reads the compiled text of `advance`.

    Args:
      text: of the program for one chip.
      caches: shapes of the cache buffers on one chip.
      whole: shapes of weights and caches before they are split over chips.
      rows: rows of the batch on one chip.
    """
    program = Program(text)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    small = inner = loops = 0
    for each, times in program.blocks():
        kind = each.op.removesuffix("-start")
        if kind in COLLECTIVES:
            phase = match[1] if (match := _PHASE.search(each.text)) else "other"
            counts[f"{phase} {kind}"] += times
            sizes[f"{phase} {kind}"] += times * each.num_bytes
            small += times * (each.num_bytes <= _SMALL)
        inner += times * _copies_cache(each, caches)
        loops += _loops_over_rows(program, each, rows)
    all_ = [each for each, _ in program.everything()]
    total = sum(_copies_cache(each, caches) for each in all_)
    once = sum(_copies_cache(each, caches) for each, _ in program.blocks())
    return ProgramText(
        collectives=dict(sorted(counts.items())),
        collective_bytes=dict(sorted(sizes.items())),
        small=small,
        cache_copies=inner,
        outer_copies=total - once,
        gathered=sum(_gathers(each, whole) for each in all_),
        row_loops=loops,
        host=sum(each.op.split("-")[0] in _HOST or "callback" in each.text for each in all_),
    )


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """Sizes without the order and without ones."""
    return tuple(sorted(size for size in shape if size > 1))


def _copies_cache(each: Instruction, caches: Sequence[tuple[int, ...]]) -> bool:
    if each.op not in _COPIES or not each.shapes:
        return False
    of_cache = _sizes(each.shapes[0][1]) in {_sizes(shape) for shape in caches}
    # A copy to the memory beside the arithmetic units, or back, is how the compiler reads there.
    return of_cache and _ON_CHIP not in each.result


def _gathers(each: Instruction, whole: Sequence[tuple[int, ...]]) -> bool:
    if each.op.removesuffix("-start") != "all-gather":
        return False
    known = {_sizes(shape) for shape in whole}
    return any(_sizes(shape) in known for _, shape in each.shapes)


def _loops_over_rows(program: Program, each: Instruction, rows: int) -> bool:
    if each.op != "while" or rows == 1 or program.length(each) != rows:
        return False
    if _LEVELS.search(each.text):  # a draft may have as many levels as the chip has rows
        return False
    return any(inner.op == "dynamic-update-slice" for inner, _ in program.inside(_body(each)))
