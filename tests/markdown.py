"""The Markdown of the repository, as GitHub reads it: links, headings, fences."""

import json
import pathlib
import re
from collections.abc import Iterator

from tests import ROOT

_FENCE = re.compile(r"(?ms)^ *(`{3,})([^\n`]*)\n(.*?)^ *\1 *$")
_SPAN = re.compile(r"(`+)[^`].*?\1")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"(?m)^(#{1,6}) +(.+?) *#*$")


def files() -> list[pathlib.Path]:
    """Markdown files and notebooks of the repository, without those of other projects."""
    folders = ("docs", "notebooks", "rsd_jax", "tests", "configs")
    found = [*ROOT.glob("*.md")]
    for folder in folders:
        found += [*(ROOT / folder).rglob("*.md"), *(ROOT / folder).rglob("*.ipynb")]
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def text_of(path: pathlib.Path) -> str:
    """The Markdown of a file; of a notebook that of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def fences(text: str) -> list[tuple[str, str]]:
    """The language and the content of every fence."""
    return [(language.strip(), content) for _, language, content in _FENCE.findall(text)]


def links(text: str) -> Iterator[str]:
    """The targets of all links and pictures, but for those in code."""
    yield from _LINK.findall(_SPAN.sub("", _FENCE.sub("", text)))


def anchors(text: str) -> set[str]:
    """The names by which GitHub finds the headings of a page."""
    seen: dict[str, int] = {}
    names = set()
    for _, title in _HEADING.findall(_FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        name = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        count = seen[name] = seen.get(name, -1) + 1
        names.add(f"{name}-{count}" if count else name)
    return names


def toctree(text: str) -> list[str]:
    """The pages of the toctrees of a page, without their titles."""
    entries = []
    for language, content in fences(text):
        if language == "{toctree}":
            lines = [line for line in content.splitlines() if line and not line.startswith(":")]
            entries += [re.sub(r".*<(.+)>$", r"\1", line) for line in lines]
    return entries
