"""The notebooks: their texts, the cells that all of them begin with, and how they are run.

    python -m tests.notebooks [NAME ...]

runs the notebooks of that name, by default all of them, and writes the .ipynb files with their
outputs. The text of a notebook is notebooks/NAME.py (jupytext, py:percent), which is what you edit.
The first two cells come from here: the badge, and the cell that installs the package in Colab.
With --keep_outputs nothing is run: for changes of the words between the cells.
"""

import argparse
import os
import pathlib
import re
import tempfile
import time
import tomllib
from collections.abc import Mapping

import jupytext
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from tests import ROOT

FOLDER = ROOT / "notebooks"
NEVER_RUN = ("llama2",)
"""Committed without outputs: these need weights that not everyone may download."""
CELL_SECONDS = 600

_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
_HEAD = """\
# %% [markdown]
# [![Open in Colab]({badge})]({colab})

# %%
REPOSITORY = "{repository}"

# In Colab this cell installs the package; elsewhere it does nothing.
import sys

if "google.colab" in sys.modules:
    import importlib.metadata
    import subprocess

    before = {{d.name.replace("_", "-"): d.version for d in importlib.metadata.distributions()}}
    # With the accelerator that Colab's JAX supports. pip leaves a JAX that is new enough.
    plugins = {{"cuda12": "jax-cuda12-plugin", "cuda13": "jax-cuda13-plugin", "tpu": "libtpu"}}
    jax = [f"jax[{{kind}}]" for kind, plugin in plugins.items() if plugin in before]
    package = f"rsd_jax @ git+{{REPOSITORY}}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package, *jax], check=True)
    if importlib.metadata.version("jax") != before.get("jax"):
        raise RuntimeError(
            "Colab's JAX was too old and has been replaced. Restart the session (menu Runtime), "
            "then run the notebook again from the top."
        )

"""


def names() -> list[str]:
    """Of all notebooks."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def repository() -> str:
    """The address of the repository, which pyproject.toml has once for everything."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"]


def head(name: str) -> str:
    """The text of the first two cells of a notebook."""
    place = repository()
    path = place.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{path}/blob/main/notebooks/{name}.ipynb"
    return _HEAD.format(badge=_BADGE, colab=colab, repository=place)


def with_head(name: str, text: str) -> str:
    """The text of a notebook with its first two cells as they should be."""
    start, _, _, rest = re.split(r"(?m)^(?=# %%)", text, maxsplit=3)
    return start + head(name) + rest


def read_text(name: str) -> nbformat.NotebookNode:
    """The notebook of a text, without outputs."""
    return jupytext.read(FOLDER / f"{name}.py")


def read_notebook(name: str) -> nbformat.NotebookNode:
    """The committed notebook, with outputs."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def run(
    notebook: nbformat.NotebookNode,
    *,
    folder: pathlib.Path = FOLDER,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs all cells of a notebook, which receives the outputs.

    Args:
      notebook: changed in place.
      folder: where its kernel starts.
      environment: of the kernel, besides that of this process.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell raised an error.
    """
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    # transformers shows bars by ipywidgets, and tqdm warns where there are none.
    quiet = {"PYTHONWARNINGS": "ignore:IProgress not found"}
    variables = {**os.environ, "PYTHONPATH": paths, **quiet, **(environment or {})}
    # A socket of the file system, so that nothing listens on the network; its path has to be short.
    with tempfile.TemporaryDirectory(prefix="nb") as scratch:
        client = NotebookClient(
            notebook,
            config=Config(ConnectionFileMixin={"transport": "ipc", "ip": f"{scratch}/k"}),
            timeout=CELL_SECONDS,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=variables)


def keep_outputs(new: nbformat.NotebookNode, old: nbformat.NotebookNode) -> None:
    """Gives a notebook the outputs of another with the same code behind the installation.

    Raises:
      ValueError: the code differs.
    """
    cells, known = ([c for c in each.cells if c.cell_type == "code"] for each in (new, old))
    if [cell.source for cell in cells[1:]] != [cell.source for cell in known[1:]]:
        raise ValueError("the code has changed; run the notebook again, without --keep_outputs")
    for cell, before in zip(cells, known, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count


def write(name: str, *, rerun: bool) -> None:
    """Writes the .ipynb of a text, with outputs of a run or of the file that is there."""
    path = FOLDER / f"{name}.py"
    path.write_text(with_head(name, path.read_text(encoding="utf-8")), encoding="utf-8")
    notebook = read_text(name)
    if name not in NEVER_RUN:
        if rerun:
            run(notebook)
        else:
            keep_outputs(notebook, read_notebook(name))
    notebook.metadata["language_info"] = {"name": "python"}  # without the version of a machine
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # not random, so that a run changes only what it has to
        cell.metadata.pop("execution", None)  # the times of day
        cell.metadata.pop("lines_to_next_cell", None)
    nbformat.write(notebook, FOLDER / f"{name}.ipynb")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all notebooks")
    parser.add_argument("--keep_outputs", action="store_true", help="runs nothing")
    args = parser.parse_args()
    chosen = args.names or names()
    if unknown := sorted(set(chosen) - set(names())):
        parser.error(f"no notebook {unknown[0]!r}; there are {names()}")
    for name in chosen:
        begin = time.perf_counter()
        try:
            write(name, rerun=not args.keep_outputs)
        except ValueError as error:
            parser.error(f"{name}: {error}")
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
