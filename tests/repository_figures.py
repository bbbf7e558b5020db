"""Numbers about the code of a checkout, to compare commits.

    python tests/repository_figures.py [CHECKOUT ...]

For each checkout: rooms of the package (folders, and modules that lie beside them), arrows between
rooms (imports), lines of package and tests after the formatter has formatted them without any
`fmt: skip`, public names, and marks that switch the formatter or a rule of the linter off.
"""

import ast
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

PACKAGE = "rsd_jax"


def _modules(root: pathlib.Path) -> dict[str, pathlib.Path]:
    found = {}
    for path in (root / PACKAGE).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _imports(path: pathlib.Path, modules: dict[str, pathlib.Path]) -> set[str]:
    """Modules of the package that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (submodules & set(modules)) or {node.module or ""}
    return names & set(modules)


def _public_names(modules: dict[str, pathlib.Path]) -> int:
    """Classes, functions and constants at the top of modules, without a leading underscore."""
    count = 0
    for path in modules.values():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                count += not node.name.startswith("_")
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [t.id for t in targets if isinstance(t, ast.Name)]
                count += sum(not name.startswith("_") for name in names)
    return count


def _formatted_lines(root: pathlib.Path, folder: str) -> int:
    """Lines of the Python files of a folder, formatted without any `fmt: skip`."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / folder
        shutil.copytree(root / folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for path in copy.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            path.write_text(re.sub(r" *# fmt: skip$", "", text, flags=re.M), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "ruff",
            "format",
            "--quiet",
            "--line-length=100",
            str(copy),
        ]
        subprocess.run(command, check=True)
        return sum(len(p.read_text(encoding="utf-8").splitlines()) for p in copy.rglob("*.py"))


def figures(root: pathlib.Path) -> dict[str, int]:
    """The figures of a checkout, by name."""
    modules = _modules(root)
    rooms = {_room(module) for module in modules}
    arrows = {
        (_room(module), _room(imported))
        for module, path in modules.items()
        for imported in _imports(path, modules)
    }
    python = [p for d in (PACKAGE, "tests", "launch", "configs") for p in (root / d).rglob("*.py")]
    marks = "\n".join(path.read_text(encoding="utf-8") for path in python)
    return {
        "rooms of the package": len(rooms - {PACKAGE}),
        "modules beside the folders": len(list((root / PACKAGE).glob("*.py"))),
        "arrows between rooms": sum(a != b and PACKAGE not in (a, b) for a, b in arrows),
        "public names": _public_names(modules),
        "lines of the package": _formatted_lines(root, PACKAGE),
        "lines of the tests": _formatted_lines(root, "tests"),
        "fmt: skip": len(re.findall(r"# fmt: skip$", marks, re.M)),
        "switched-off E402": len(re.findall(r"noqa: [E]402", marks)),
    }


def main() -> None:
    roots = [pathlib.Path(name) for name in sys.argv[1:]] or [pathlib.Path()]
    columns = [figures(root) for root in roots]
    for name in columns[0]:
        print(f"{name:28}" + "".join(f"{column[name]:>9}" for column in columns))


if __name__ == "__main__":
    main()
