"""The documentation site: Sphinx with MyST, from the Markdown files and the committed notebooks.

    python -m sphinx -W --keep-going -c docs . build/docs

The source folder is the root of the repository, so that the links between Markdown files are the
same here and on GitHub. Nothing is executed and nothing is fetched.
"""

import json
import pathlib
import re
import tomllib

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

import rsd_jax

ROOT = pathlib.Path(__file__).parents[1]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "urls"
]["Repository"]

project = "rsd_jax"
author = "rsd_jax contributors"
copyright = author
version = release = rsd_jax.__version__

extensions = [
    "myst_nb",  # Markdown and notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.githubpages",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**.md",
    "notebooks/*.md",
    "notebooks/*.ipynb",
]
exclude_patterns = [".*", "build", "dist", "runs", "rsd_jax", "tests", "configs", "launch"]

html_theme = "furo"
html_title = f"rsd_jax {release}"
html_extra_path = ["site"]  # a page that leads from the root of the site to the first page
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_math_renderer = "mathml"
html_theme_options = {
    "source_repository": f"{REPOSITORY}/",
    "source_branch": "main",
    "source_directory": "",
}

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]  # as GitHub writes formulas
myst_heading_anchors = 4  # as GitHub makes them
nb_execution_mode = "off"
nb_code_prompt_show = "Show the {type} that installs the package in Colab"
nb_ipywidgets_js = {}  # no notebook has widgets, whose scripts would come from the net

suppress_warnings = ["misc.highlighting_failure"]  # a command with a place to fill in is no shell

default_role = "py:obj"  # `name` in a docstring is a link where that name has an entry
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 88

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")


def link_to_repository(text: str, folder: pathlib.Path) -> str:
    """Makes links to files that are no pages of the site, such as code, links to the repository.

    Args:
      text: of a page, Markdown or the JSON of a notebook.
      folder: of that page.
    """

    def replace(match: re.Match[str]) -> str:
        start, target, anchor = match[1], match[2], match[3] or ""
        path = (folder / target).resolve()
        is_picture = path.suffix in (".png", ".svg")
        is_page = path.suffix in (".md", ".ipynb")
        if is_page or not path.exists() or not path.is_relative_to(ROOT):
            return match[0]
        if is_picture and text[: match.start()].rpartition("[")[0].endswith("!"):
            return match[0]
        kind = "tree" if path.is_dir() else "blob"
        return f"{start}{REPOSITORY}/{kind}/main/{path.relative_to(ROOT)}{anchor}"

    return _LINK.sub(replace, text)


def _without_installation(text: str) -> str:
    """Folds the code of the first cell of a notebook, which installs the package in Colab."""
    notebook = json.loads(text)
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first["metadata"]["tags"] = ["hide-input"]
    return json.dumps(notebook)


def _read_source(app, docname: str, source: list[str]) -> None:
    path = pathlib.Path(app.env.doc2path(docname))
    source[0] = link_to_repository(source[0], path.parent)
    if path.suffix == ".ipynb":
        source[0] = _without_installation(source[0])


def to_restructured_text(what: str, lines: list[str]) -> list[str]:
    """Marks what docstrings leave unmarked, such as indented examples and formulas.

    Args:
      what: the kind of object, as autodoc names it.
      lines: of its docstring, before the sections are read.
    """
    marked: list[str] = []
    before, in_block = 0, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip():
            if in_block and indent <= before:
                in_block = False
            elif not in_block and marked and not marked[-1] and indent >= before + 4:
                in_block = True
                marked += [" " * before + "::", ""]
            if not in_block:
                before = indent
        marked.append(line if in_block else _escaped(line))
    if what in ("attribute", "data", "property") and marked:
        # Else napoleon takes what is before the colon for a type.
        marked[:1] = re.split(r"(?<=:) ", marked[0], maxsplit=1)
    return marked


def _escaped(line: str) -> str:
    line = re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", line)  # the end of `name`s
    line = re.sub(r"(?<!\w)([A-Za-z])\.$", r"\1\\.", line)  # a letter, not the number of a list
    return line.replace("·|", "·\\|")


def _read_docstring(app, what: str, name: str, obj, options, lines: list[str]) -> None:
    lines[:] = to_restructured_text(what, lines)


def _find_class(app, env, node, contnode):
    """Links a class or constant in a docstring that is named without its module."""
    name, domain = node["reftarget"], env.get_domain("py")
    if node.get("refdomain") != "py" or not name[:1].isupper():
        return None
    found = [known for known in domain.objects if known.endswith(f".{name}")]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


def _formula(writer, node) -> None:
    writer.body.append(tex2mathml(node.astext()))
    raise SkipNode


def _formula_on_lines(writer, node) -> None:
    writer.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app) -> None:
    app.add_html_math_renderer(
        "mathml", inline_renderers=(_formula, None), block_renderers=(_formula_on_lines, None)
    )
    app.connect("source-read", _read_source)
    app.connect("missing-reference", _find_class)
    app.connect("autodoc-process-docstring", _read_docstring, priority=100)  # before napoleon
