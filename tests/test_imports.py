"""The levels of CONTRIBUTING.md, compared with the imports of the package."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

from tests import ROOT

_PACKAGE = "rsd_jax"
_ABOVE_ALL = (_PACKAGE, f"{_PACKAGE}.testing")
_CHECK = (f"{_PACKAGE}.cli.commands.check", f"{_PACKAGE}.testing")
"""The one module that may import the testing kit."""
_OPTIONAL = (
    "optax",
    "orbax",
    "tensorboardX",
    "ml_collections",
    "matplotlib",
    "num2words",
    "rouge_score",
    "sacrebleu",
    "tqdm",
    "torch",
    "scipy",
    "tensorflow_datasets",
    "array_record",
    "bayes_opt",
    "gguf",
)


def _levels() -> dict[str, int]:
    """Level by folder (or module beside them), from the table in CONTRIBUTING.md."""
    levels = {}
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        if row := re.match(r"\| (\d+) \| ([^|]+) \|", line):
            for name in re.findall(r"`([\w.]+?)/?`", row[2]):
                levels[f"{_PACKAGE}.{name}"] = int(row[1])
    return levels


_LEVELS = _levels()


def _room(module: str) -> str:
    """The folder of the package that a module is in, or the module if it lies beside them."""
    return ".".join(module.split(".")[:2])


def _modules() -> dict[str, pathlib.Path]:
    found = {}
    for path in (ROOT / _PACKAGE).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


_MODULES = _modules()


def _imports(path: pathlib.Path) -> set[str]:
    """Modules of the package that a file imports, at the top or later."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (submodules & set(_MODULES)) or {node.module or ""}
    return {name for name in names if name.split(".")[0] == _PACKAGE}


def test_the_table_names_every_folder():
    rooms = {_room(module) for module in _MODULES} - {*_ABOVE_ALL}
    assert set(_LEVELS) == rooms


@pytest.mark.parametrize("module", sorted(set(_MODULES) - {_PACKAGE}))
def test_imports_go_down(module):
    own = _room(module)
    if own in _ABOVE_ALL:
        return
    for imported in _imports(_MODULES[module]):
        other = _room(imported)
        if (module, other) == _CHECK:
            continue
        assert other not in _ABOVE_ALL, f"{module} imports {imported}, which stands above all"
        assert other == own or _LEVELS[other] < _LEVELS[own], f"{module} imports {imported}"


def _runs_without(modules: tuple[str, ...], code: str) -> None:
    block = f"import sys; sys.modules.update(dict.fromkeys({modules!r})); {code}"
    run = subprocess.run(
        [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr


def test_the_facade_needs_few_libraries():
    """GPU images often lack all other libraries, which are imported where they are used."""
    _runs_without(_OPTIONAL, "import rsd_jax; [getattr(rsd_jax, n) for n in rsd_jax.__all__]")


def test_rows_are_read_and_drawn_without_jax():
    _runs_without(
        ("jax", "flax"),
        "import rsd_jax.records.files, rsd_jax.records.metrics, rsd_jax.reporting.report, "
        "rsd_jax.reporting.blocks",
    )
