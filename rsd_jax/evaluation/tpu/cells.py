"""Which programs are compiled for which TPUs, in order of worth, and the row of each."""

import dataclasses
import functools
from typing import Any

import jax

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.methods import Method, build_method, method_of_tree
from rsd_jax.evaluation.accelerator.cells import Cell
from rsd_jax.evaluation.accelerator.settings import Tree
from rsd_jax.evaluation.measured_rows import header
from rsd_jax.evaluation.tpu.findings import read_program
from rsd_jax.evaluation.tpu.programs import (
    Chips,
    Compiled,
    abstract_model,
    bytes_per_chip,
    compile_programs,
    local_shape,
)
from rsd_jax.records.device_parts import CompiledBlock, ProgramText
from rsd_jax.records.rows import config_hash

PART = "compiled"
_GIB = 2**30
# Memory of a chip: Google Cloud's pages of TPU versions.
_V5E, _V6E, _V5P = 16 * _GIB, 32 * _GIB, 95 * _GIB

V5E_8 = Chips(topology="v5e:2x4", mesh=(1, 8), hbm=_V5E)
V5E_2_BY_4 = Chips(topology="v5e:2x4", mesh=(2, 4), hbm=_V5E)
V5E_16 = Chips(topology="v5e:4x4", mesh=(1, 16), hbm=_V5E)
V6E_8 = Chips(topology="v6e:2x4", mesh=(1, 8), hbm=_V6E)
V5P_8 = Chips(topology="v5p:2x2x2", mesh=(1, 8), hbm=_V5P)

TREES: tuple[Tree, ...] = (
    ("ar", "-", None),
    ("sd", "4", None),
    ("rsd_s", "6x5", None),
    ("swift", "", None),
    ("rsd_c", "2-2-1", None),
    ("spectr", "3x4", None),
    ("sd", "4", "coupling"),
    ("rsd_c", "2-2-1", "coupling"),
    ("rsd_s", "6x5", "coupling"),
    ("self_sd", "4", None),
    ("self_spectr", "3x4", None),
    ("self_rsd_c", "2-2-1", None),
    ("self_rsd_s", "6x5", None),
    ("static", "4-2.1.1.0-2.1.0.0", None),
    ("self_static", "4-2.1.1.0-2.1.0.0", None),
    ("lookup", "8", None),
    ("rsd_s", "6x5+8", None),
    ("dynamic", "7@0.4", None),
    ("dyspec", "6x5@0.05", None),
    ("self_dyspec", "6x5", None),
    ("beam", "6x5@0.05", None),
    ("self_beam", "6x5", None),
    ("mixed_beam", "6x5@0.05", None),
    ("self_mixed_beam", "6x5", None),
)
"""The methods, in order of worth; SWIFT with the tree of its paper."""

_FEW_LAYERS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One program.

    Attributes:
      chips: what it is compiled for.
      target, draft: names of shapes.
      layers: of the target that is compiled; None for all. Memory is that of all in any case.
      tree: the method.
      batch: rows.
      capacity: positions of the caches, nearly.
      replicated_draft: whether every chip of the axis "model" has the whole draft.
    """

    chips: Chips
    target: str
    tree: Tree
    batch: int
    draft: str = "llama2_115m"
    layers: int | None = None
    capacity: int = 2048
    replicated_draft: bool = False

    @property
    def name(self) -> str:
        """Identifies the case."""
        method, tree, verifier = self.tree
        words = " ".join(word for word in (method, tree, verifier) if word)
        mesh = "x".join(map(str, self.chips.mesh))
        layers = f", {self.layers} layers" if self.layers else ""
        place = f"{self.chips.topology} as {mesh}"
        draft = ", whole draft on every chip" if self.replicated_draft else ""
        return f"{self.target}{layers} on {place}: {words}, batch {self.batch}{draft}"

    @property
    def config_hash(self) -> str:
        """Of all fields."""
        return config_hash(dataclasses.asdict(self))

    def method(self) -> Method:
        """The method."""
        name, tree, verifier = self.tree
        return (
            build_method(name) if name == "swift" else method_of_tree(name, tree, verifier=verifier)
        )


def cases() -> list[Case]:
    """All cases, in order of worth."""
    first, rest = TREES[:4], TREES[4:]
    found = []
    for batch in (1, 16):
        found += [_case(V5E_8, "llama2_7b", tree, batch) for tree in first]
    found += [_case(V5E_2_BY_4, "llama2_7b", tree, 16) for tree in first]
    for batch in (1, 16):
        found += [_case(V5E_8, "llama2_7b", tree, batch, _FEW_LAYERS) for tree in rest]
    found += [_case(V5E_2_BY_4, "llama2_7b", tree, 16, _FEW_LAYERS) for tree in rest]
    larger = (
        (V5E_8, "llama2_13b"),
        (V6E_8, "llama2_70b"),
        (V5P_8, "llama2_70b"),
    )
    for chips, target in larger:
        for batch in (1, 16):
            found += [_case(chips, target, tree, batch, _FEW_LAYERS) for tree in first]
    # Twice as many chips as the target has key/value heads, and as the draft has heads at all.
    drafted = [_case(V5E_16, "llama2_70b", tree, b, _FEW_LAYERS) for b in (1, 16) for tree in first]
    drafted += [_case(V5E_8, "llama2_13b", TREES[1], batch, _FEW_LAYERS) for batch in (1, 16)]
    return found + [dataclasses.replace(case, replicated_draft=True) for case in drafted]


def _case(chips: Chips, target: str, tree: Tree, batch: int, layers: int | None = None) -> Case:
    return Case(chips=chips, target=target, tree=tree, batch=batch, layers=layers)


def cell(case: Case) -> Cell:
    """The cell of a case."""
    return Cell(PART, case.name, functools.partial(_header, case), functools.partial(_read, case))


def _header(case: Case) -> dict[str, Any]:
    return header(
        None,
        case.method(),
        kind=PART,
        pair=f"{case.target} {case.draft}" + " replicated" * case.replicated_draft,
        task="-",
        dtype="bfloat16",
        mesh=dict(zip(("data", "model"), case.chips.mesh, strict=True)),
        batch_size=case.batch,
        context_length=case.capacity,
    )


def _read(case: Case) -> dict[str, Any]:
    layout = case.chips.layout()
    target = abstract_model(case.target, layout, layers=case.layers)
    of_draft = dataclasses.replace(layout, replicated=case.replicated_draft)
    draft = abstract_model(case.draft, of_draft)
    programs = compile_programs(
        case.method(), target, draft, batch=case.batch, capacity=case.capacity
    )
    found = _findings(case, programs)
    more = _bytes_of_layers_left_out(case, target, programs)
    needed = {name: _bytes(getattr(programs, name)) + more for name in ("prefill", "advance")}
    part = CompiledBlock(
        topology=case.chips.topology,
        layers=target.model.num_layers,
        chip_bytes=needed["advance"],
        prefill_bytes=needed["prefill"],
        hbm_bytes=case.chips.hbm,
        compile_seconds=programs.seconds,
        problems=_problems(found, max(needed.values()), case.chips.hbm),
        **dataclasses.asdict(found),
    )
    return {"compiled": part}


def _findings(case: Case, programs: Compiled) -> ProgramText:
    capacity = programs.state.tokens.shape[1]
    buffers = [leaf for leaf in jax.tree.leaves(programs.state) if len(leaf.shape) == 4]
    caches = [leaf for leaf in buffers if leaf.shape[2] == capacity]  # the others are scratch
    weights = [leaf for leaf in jax.tree.leaves(programs.params) if len(leaf.shape) == 2]
    split = [leaf for leaf in (*caches, *weights) if local_shape(leaf) != leaf.shape]
    rows = -(-case.batch // case.chips.mesh[0])
    held = [(rows, *leaf.shape[1:]) if len(leaf.shape) == 4 else leaf.shape for leaf in split]
    return read_program(
        programs.advance.as_text(),
        caches=[local_shape(leaf) for leaf in caches],
        whole=held,
        rows=rows,
    )


def _bytes(program: Any) -> int:
    """Memory of a chip that a program takes: arguments, results that replace none, temporaries."""
    sizes = program.memory_analysis()
    return int(
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + sizes.temp_size_in_bytes
        + sizes.generated_code_size_in_bytes
    )


def _bytes_of_layers_left_out(case: Case, target: LoadedModel, programs: Compiled) -> int:
    """Weights, cache and scratch, on one chip, of the layers that were not compiled."""
    if case.layers is None:
        return 0
    assert target.layout is not None
    whole = abstract_model(case.target, target.layout)
    of_target = jax.tree.leaves((programs.state.target_cache, programs.state.target_scratch))
    cached = bytes_per_chip([leaf for leaf in of_target if len(leaf.shape) == 4])
    left_out = whole.model.num_layers - case.layers
    weights = bytes_per_chip(whole.params) - bytes_per_chip(target.params)
    return weights + cached // case.layers * left_out


def _problems(found: ProgramText, needed: int, hbm: int) -> list[str]:
    problems = []
    if needed > hbm:
        problems.append(f"needs {needed / _GIB:.1f} GiB of {hbm / _GIB:.0f}")
    if found.gathered:
        problems.append(f"gathers {found.gathered} weights or caches")
    if found.cache_copies:
        problems.append(f"copies {found.cache_copies} cache buffers a block")
    if found.row_loops:
        problems.append(f"has {found.row_loops} loops over rows")
    if found.host:
        problems.append(f"talks to the host in {found.host} places")
    return problems
