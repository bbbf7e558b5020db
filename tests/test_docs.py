"""The documentation: links, navigation, entries of the API, examples, and the site itself."""

import ast
import doctest
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

import rsd_jax
from tests import ROOT, markdown, needs_pages

_DOCS = ROOT / "docs"
_FILES = markdown.files()
# What users import from, besides `rsd_jax` itself.
_ROOMS = ("drafters", "reporting.blocks", "search", "testing", "verifiers")
_DIRECTIVE = re.compile(r"(?m)^\.\. auto(?:function|class|exception|data|module):: (\S+)$")
_BUILDS = all(map(importlib.util.find_spec, ("sphinx", "myst_nb", "furo", "sphinx_copybutton")))
needs_sphinx = pytest.mark.skipif(not _BUILDS, reason='needs pip install -e ".[docs]"')


def _read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def _name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", _FILES, ids=_name)
def test_links_lead_somewhere(path):
    broken = []
    for link in markdown.links(markdown.text_of(path)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        file = (path.parent / target).resolve() if target else path
        known = markdown.anchors(markdown.text_of(file)) if anchor and file.exists() else {anchor}
        if not file.exists() or anchor not in known:
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_navigation():
    reached, to_read = set(), [_DOCS / "index.md"]
    while to_read:
        page = to_read.pop()
        reached.add(page)
        for entry in markdown.toctree(markdown.text_of(page)):
            found = [page.parent.joinpath(entry + suffix).resolve() for suffix in (".md", ".ipynb")]
            (file,) = [each for each in found if each.exists()]
            to_read.append(file)
    pages = [path for path in _FILES if path.parent == ROOT or "rsd_jax" not in _name(path)]
    assert sorted(reached) == pages


def _api_entries():
    texts = [path.read_text(encoding="utf-8") for path in sorted((_DOCS / "api").glob("*.md"))]
    return [name for text in texts for name in _DIRECTIVE.findall(text)]


def test_every_entry_of_the_api_exists_once():
    entries = _api_entries()
    assert len(entries) == len(set(entries))
    for entry in entries:
        try:
            importlib.import_module(entry)
        except ModuleNotFoundError:
            module, _, name = entry.rpartition(".")
            assert hasattr(importlib.import_module(module), name), entry


def _documented():
    """The objects with an entry of their own, or in a module whose members all have one."""
    for entry in _api_entries():
        try:
            module = importlib.import_module(entry)
        except ModuleNotFoundError:
            place, _, name = entry.rpartition(".")
            yield getattr(importlib.import_module(place), name)
        else:
            yield from (getattr(module, name) for name in getattr(module, "__all__", dir(module)))


def test_every_public_name_has_an_entry():
    documented = {id(thing) for thing in _documented()}
    modules = ["rsd_jax", *(f"rsd_jax.{room}" for room in _ROOMS)]
    missing = [
        f"{module}.{name}"
        for module in modules
        for name in importlib.import_module(module).__all__
        if name != "__version__" and id(getattr(sys.modules[module], name)) not in documented
    ]
    assert missing == []


def test_every_method_and_its_options_are_in_the_table():
    from rsd_jax.engine.methods import METHODS

    rows = [line for line in _read("docs/api/methods.md").splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(METHODS)


def test_the_first_page_shows_the_table_of_the_readme():
    table = [line for line in _read("docs/index.md").splitlines() if line.startswith("|")]
    assert len(table) == 8
    assert "\n".join(table) in _read("README.md")


def test_the_citation_is_that_of_this_version():
    citation = yaml.safe_load(_read("CITATION.cff"))
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    assert citation["version"] == rsd_jax.__version__
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == project["urls"]["Repository"]
    page = _read("docs/citing.md")
    for paper in citation["references"]:
        assert paper["url"] in page
        assert paper["title"] in page
        assert (
            ", ".join(f"{a['given-names']} {a['family-names']}" for a in paper["authors"]) in page
        )


def _messages():
    """The texts of the package, each with a mark in place of what is filled in."""
    for path in (ROOT / "rsd_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", "\0") for part in node.values]
                yield "".join(part if isinstance(part, str) else "\0" for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_quoted_warnings_are_those_of_the_code():
    text = " ".join(_read("docs/troubleshooting.md").split())
    quoted = re.findall(r'\| "([^"]+)" \|', text)
    assert len(quoted) > 5
    messages = list(_messages())
    for quote in quoted:
        parts = [part.strip(" ;") for part in quote.split("…") if part.strip(" ;")]
        assert any(all(part in message for part in parts) for message in messages), quote


@pytest.mark.parametrize(
    "name",
    ["core.skips", "drafters.static_tree", "engine.methods", "engine.request", "records.metrics"],
)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"rsd_jax.{name}")
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0


def test_no_module_with_examples_is_left_out():
    (mark,) = test_examples_in_docstrings.pytestmark
    with_examples = [
        ".".join(path.relative_to(ROOT / "rsd_jax").with_suffix("").parts)
        for path in (ROOT / "rsd_jax").rglob("*.py")
        if re.search(r"(?m)^ *>>> ", path.read_text(encoding="utf-8"))
    ]
    assert sorted(with_examples) == mark.args[1]


@pytest.mark.parametrize("path", _FILES, ids=_name)
def test_python_in_pages(path):
    """Code is Python, and where it shows what is printed, that is printed."""
    for language, code in markdown.fences(markdown.text_of(path)):
        if language == "python" and ">>>" in code:
            test = doctest.DocTestParser().get_doctest(code, {}, _name(path), None, None)
            assert doctest.DocTestRunner().run(test).failed == 0
        elif language == "python":
            compile(code, _name(path), "exec")


def test_the_first_lines_of_python_run(capsys):
    """Those of README, and of the first page, with fewer tokens."""
    for name in ("README.md", "docs/index.md"):
        codes = [code for language, code in markdown.fences(_read(name)) if language == "python"]
        code = codes[0].replace("max_new_tokens=64", "max_new_tokens=6")
        assert code != codes[0]
        exec(compile(code, name, "exec"), {})
        assert 1 <= float(capsys.readouterr().out.split()[-1]) <= 5


def _conf():
    spec = importlib.util.spec_from_file_location("conf", _DOCS / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_sphinx
def test_links_to_code_become_links_to_the_repository():
    conf = _conf()

    def linked(text):
        return conf.link_to_repository(text, _DOCS).replace(conf.REPOSITORY, "R")

    assert linked("[a](../rsd_jax/errors.py)") == "[a](R/blob/main/rsd_jax/errors.py)"
    assert linked("[a](../rsd_jax/core)") == "[a](R/tree/main/rsd_jax/core)"
    assert linked("[a](results/swift_chain.png)") == "[a](R/blob/main/docs/results/swift_chain.png)"
    for kept in ("![a](results/swift_chain.png)", "[a](methods.md#warp)", "[a](https://b.c)"):
        assert linked(kept) == kept


@needs_sphinx
def test_docstrings_become_restructured_text():
    conf = _conf()
    lines = ["The `Name`s of p(·|v):", "", "    a = 1", "", "Then:", "  one: V."]
    expected = ["The `Name`\\ s of p(·\\|v):", "", "::", "", *lines[2:5], "  one: V\\."]
    assert conf.to_restructured_text("module", lines) == expected
    assert conf.to_restructured_text("property", ["In words: one."]) == ["In words:", "one."]


@needs_pages
@needs_sphinx
def test_the_site_builds_without_warnings(tmp_path):
    """The command of CONTRIBUTING; nothing in the pages is loaded from elsewhere but badges."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "."]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [*command, str(tmp_path), "-d", str(tmp_path / "doctrees")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    pages = {
        path.relative_to(tmp_path).as_posix(): path.read_text(encoding="utf-8")
        for path in tmp_path.rglob("*.html")
    }
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML"' in pages["docs/methods.html"]
    assert 'id="rsd_jax.generate"' in pages["docs/api/decoding.html"]
    assert "url=docs/index.html" in pages["index.html"]
    assert "_images/" in pages["notebooks/tree_anatomy.html"]
    loaded = {
        url
        for page in pages.values()
        for tag in re.findall(r"<(?:script|img|link rel=\"stylesheet\")[^>]*>", page)
        for url in re.findall(r"(?:src|href)=\"(https?:[^\"]*)\"", tag)
    }
    assert loaded == {"https://colab.research.google.com/assets/colab-badge.svg"}
