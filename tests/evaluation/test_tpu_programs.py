"""What is read from compiled programs, with programs for a mesh of CPUs in place of TPUs."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.sharding import MeshLayout
from rsd_jax.engine import phases
from rsd_jax.evaluation.tpu import cells
from rsd_jax.evaluation.tpu.findings import Program, read_program
from rsd_jax.evaluation.tpu.programs import Chips, abstract_model, bytes_per_chip
from rsd_jax.models import cache
from rsd_jax.models.kv_heads import check_split
from rsd_jax.models.shapes import NAMED_CONFIGS
from rsd_jax.records.rows import Row
from rsd_jax.reporting.accelerator.compiled import compiled_table, problems

ROWS = 3


class OnCpus(Chips):
    """A slice whose chips are the CPU devices of the tests."""

    def layout(self):
        return MeshLayout.of(jax.make_mesh(self.mesh, ("data", "model")))


def test_the_models_of_every_case_can_be_split_over_its_chips():
    for case in cells.cases():
        layout = SimpleNamespace(model_shards=case.chips.mesh[1])
        check_split(NAMED_CONFIGS[case.target], layout, case.name)
        if not case.replicated_draft:
            check_split(NAMED_CONFIGS[case.draft], layout, case.name)


def _case(layers=None, hbm=2**30):
    return cells.Case(
        chips=OnCpus(topology="cpu:2", mesh=(1, 2), hbm=hbm),
        target="tiny_target",
        draft="tiny_draft",
        tree=("sd", "2", None),
        batch=ROWS,
        layers=layers,
        capacity=256,
    )


def _row(case) -> Row:
    cell = cells.cell(case)
    fields = cell.header() | {"source": "accelerator", "config_hash": case.config_hash}
    return Row(**fields, **cell.measure())


@pytest.fixture(scope="module")
def row():
    return _row(_case())


def test_a_program_without_faults(row):
    found = row.compiled
    assert found.problems == []
    assert (found.gathered, found.cache_copies, found.row_loops, found.host) == (0, 0, 0, 0)
    # Two sub-layers in each of three layers, and the output head.
    assert found.collectives["score all-reduce"] >= 6
    assert found.small <= sum(found.collectives.values())
    assert 0 < found.chip_bytes < found.hbm_bytes
    assert problems([row]) == []
    table = compiled_table([row, row])
    assert len(table.rows) == 1
    assert table.rows[0][:7] == ("tiny_target", "3", "cpu:2", "1x2", "sd", "2", "3")


def test_a_draft_that_is_whole_on_every_chip(row):
    whole = _row(dataclasses.replace(_case(), replicated_draft=True))
    assert any(name.startswith("draft") for name in row.compiled.collectives)
    assert not any(name.startswith("draft") for name in whole.compiled.collectives)
    targets = [line[0] for line in compiled_table([row, whole]).rows]
    assert targets == ["tiny_target", "tiny_target, whole draft"]


def test_bytes_of_layers_that_are_not_compiled(monkeypatch):
    """The arithmetic gives what the arguments of the whole program have more."""

    def arguments(program):
        return program.memory_analysis().argument_size_in_bytes

    monkeypatch.setattr(cells, "_bytes", arguments)
    whole, cut = _row(_case()).compiled, _row(_case(layers=1, hbm=2**10)).compiled
    assert (whole.layers, cut.layers) == (3, 1)
    assert cut.chip_bytes == whole.chip_bytes
    assert "GiB of 0" in cut.problems[0]


def _through_a_copy(write):
    def wrapped(buffer, update, start, *, axis):
        everything = jnp.minimum(jnp.arange(buffer.shape[2]), start[0] + buffer.shape[2])
        return write(buffer[:, :, everything][:, :, ::-1][:, :, ::-1], update, start, axis=axis)

    return wrapped


def _in_a_loop(write):
    def wrapped(buffer, update, start, *, axis):
        def step(row, buffer):
            one = jax.lax.dynamic_slice_in_dim(update, row, 1)
            at = [jnp.asarray(0, start.dtype)] * buffer.ndim
            at[0], at[axis] = row.astype(start.dtype), start[row]
            return jax.lax.dynamic_update_slice(buffer, one, at)

        return jax.lax.fori_loop(0, ROWS, step, buffer)

    return wrapped


@pytest.mark.parametrize(
    ("place", "change", "problem"),
    [(cache, _through_a_copy, "cache buffers"), (phases, _in_a_loop, "loops over rows")],
    ids=["copy", "loop"],
)
def test_faults_are_seen(place, change, problem, monkeypatch):
    monkeypatch.setattr(place, "write_rows", change(place.write_rows))
    jax.clear_caches()
    found = _row(_case()).compiled
    monkeypatch.undo()
    jax.clear_caches()
    assert any(problem in each for each in found.problems), found


def test_a_gathered_cache_is_seen(monkeypatch):
    place = MeshLayout.place_buffers

    def whole_in_the_loop(self, state, *, within_rows=False):
        if not within_rows:
            return place(self, state)
        whole = jax.sharding.PartitionSpec()
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, whole), state)

    monkeypatch.setattr(MeshLayout, "place_buffers", whole_in_the_loop)
    jax.clear_caches()
    row = _row(_case())
    monkeypatch.undo()
    jax.clear_caches()
    assert any(each.startswith("gathers") for each in row.compiled.problems)
    assert "gathers" in problems([row])[0]


TEXT = """\
HloModule jit_advance

%body (p: (s32[], f32[4,64])) -> (s32[], f32[4,64]) {
  %p = (s32[], f32[4,64]) parameter(0)
  %a = f32[4,64]{1,0} all-reduce(%x), OP="jit(advance)/while/body/draft/max"}
  %i = (s32[], f32[]) while(%t), condition=%short, body=%inner
  ROOT %r = (s32[], f32[4,64]) tuple(%p, %a)
}
%inner (q: (s32[], f32[])) -> (s32[], f32[]) {
  %s = (f32[8]{0}, f32[16]{0}) all-gather-start(%q), OP="jit(x)/while/body/shard_map/verify/x"}
  %d = f32[16]{0} all-gather-done(%s)
}
%short (q: (s32[], f32[])) -> pred[] {
  %five = s32[] constant(5)
  ROOT %c = pred[] compare(%n, %five), direction=LT
}
ENTRY %main (x: f32[4,64]) -> f32[4,64] {
  %other = (s32[], f32[]) while(%t), condition=%short, body=%inner
  %loop = (s32[], f32[4,64]) while(%t), condition=%short, body=%body
  %big = bf16[3,1,128,64]{3,2,1,0} copy(%y)
}
""".replace("OP=", "metadata={op_name=")


def test_loops_multiply_what_they_hold():
    found = read_program(TEXT, caches=[(3, 1, 64, 128)], whole=[(16,)], rows=4)
    assert found.collectives == {"draft all-reduce": 1, "verify all-gather": 5}
    assert found.collective_bytes == {"draft all-reduce": 1024, "verify all-gather": 5 * 64}
    assert (found.small, found.cache_copies, found.outer_copies) == (6, 0, 1)
    assert found.gathered == 2  # in both loops that reach the instruction
    assert len(list(Program(TEXT).blocks())) == 6


LOOP = """\
%rows (q: (s32[], f32[4])) -> (s32[], f32[4]) {
  %w = f32[4]{0} dynamic-update-slice(%a, %b, %c)
}
%four (q: (s32[], f32[4])) -> pred[] {
  %limit = s32[] constant(4)
  ROOT %c = pred[] compare(%n, %limit), direction=LT
}
%block (q: (s32[], f32[4])) -> (s32[], f32[4]) {
  %l = (s32[], f32[4]) while(%q), condition=%four, body=%rows, metadata={op_name="NAME"}
}
ENTRY %main (x: f32[4]) -> f32[4] {
  %blocks = (s32[], f32[4]) while(%t), condition=%unknown, body=%block
}
"""


@pytest.mark.parametrize(
    ("name", "rows", "count"),
    [
        ("jit(x)/while/body/commit/scatter", 4, 1),
        ("jit(x)/while/body/commit/scatter", 5, 0),
        ("jit(x)/while/body/draft/draft_steps/while/body/scatter", 4, 1),
        ("jit(x)/while/body/draft/draft_steps/while", 4, 0),  # levels
    ],
)
def test_loops_over_rows_are_counted(name, rows, count):
    text = LOOP.replace("NAME", name)
    assert read_program(text, caches=[], whole=[], rows=rows).row_loops == count


def test_cases():
    every = cells.cases()
    assert len({case.name for case in every}) == len({case.config_hash for case in every})
    methods = {case.method().name for case in every}
    assert methods == set(rsd_jax.engine.methods.METHODS)


def test_bytes_per_chip():
    layout = OnCpus(topology="cpu:2", mesh=(1, 2), hbm=0).layout()
    params = abstract_model("tiny_target", layout).params
    whole = sum(2 * int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    assert whole / 2 <= bytes_per_chip(params) < 0.7 * whole
    on_every_chip = dataclasses.replace(layout, replicated=True)
    assert bytes_per_chip(abstract_model("tiny_target", on_every_chip).params) == whole


def test_no_compiler_for_tpus():
    with pytest.raises(rsd_jax.ConfigError, match="in an environment of its own"):
        dataclasses.replace(cells.V5E_8, topology="v5e:nonsense").layout()
