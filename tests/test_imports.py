"""The levels of CONTRIBUTING.md, held against the imports of the package."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGE = "rsd_jax"
_ABOVE_ALL = (_PACKAGE, f"{_PACKAGE}.testing")
_OPTIONAL = (
    "optax", "orbax", "ml_collections", "matplotlib", "num2words", "rouge_score", "sacrebleu",
    "tqdm", "torch", "scipy", "tensorflow_datasets", "array_record", "bayes_opt",
)  # fmt: skip


def _levels() -> dict[str, int]:
    """Level by module or folder, from the table in CONTRIBUTING.md."""
    levels = {}
    for line in (_ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        if row := re.match(r"\| (\d+) \| ([^|]+) \|", line):
            for name in re.findall(r"`([\w.]+)`", row[2]):
                levels[f"{_PACKAGE}.{name}"] = int(row[1])
    return levels


_LEVELS = _levels()


def _covering(module: str) -> str | None:
    """The table's entry for a module: itself or the folder it is in."""
    while module and module not in _LEVELS:
        module = module.rpartition(".")[0]
    return module or None


def _modules() -> dict[str, pathlib.Path]:
    found = {}
    for path in (_ROOT / _PACKAGE).rglob("*.py"):
        parts = path.relative_to(_ROOT).with_suffix("").parts
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


def test_every_module_has_a_level():
    missing = [m for m in _MODULES if not m.startswith(_ABOVE_ALL[1]) and _covering(m) is None]
    assert [m for m in missing if m != _PACKAGE] == []
    unknown = [name for name in _LEVELS if name not in _MODULES]
    assert unknown == [], "CONTRIBUTING.md names modules that do not exist"


@pytest.mark.parametrize("module", sorted(set(_MODULES) - {_PACKAGE}))
def test_imports_go_down(module):
    if module.startswith(_ABOVE_ALL[1]):
        return
    own = _covering(module)
    for imported in _imports(_MODULES[module]):
        assert not imported.startswith(_ABOVE_ALL[1]), f"{module} imports the testing kit"
        assert imported != _PACKAGE, f"{module} imports the package's own facade"
        other = _covering(imported)
        if other != own:
            assert _LEVELS[other] < _LEVELS[own], f"{module} imports {imported}"


def _runs_without(modules: tuple[str, ...], code: str) -> None:
    block = f"import sys; sys.modules.update(dict.fromkeys({modules!r})); {code}"
    run = subprocess.run(
        [sys.executable, "-c", block], cwd=_ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr


def test_the_facade_needs_few_libraries():
    """GPU images often lack the others; they are imported where they are used."""
    _runs_without(_OPTIONAL, "import rsd_jax; [getattr(rsd_jax, n) for n in rsd_jax.__all__]")


def test_rows_are_read_and_drawn_without_jax():
    _runs_without(
        ("jax", "flax"),
        "import rsd_jax.row_files, rsd_jax.metrics, rsd_jax.reporting.report",
    )
