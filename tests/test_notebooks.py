"""The notebooks: text and .ipynb agree, outputs are whole and private, and the cells run.

The cheap notebooks run where RSD_JAX_PAGES=1 is set, as by .ci/run, in little time because their
numbers are set lower. The others run where RSD_JAX_NOTEBOOKS=1 is set; they take some minutes.
"""

import dataclasses
import os
import re
import sys
from unittest import mock

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from rsd_jax.models.checkpoint import save_model
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import needs_pages, notebooks, tiny_tokenizers

NAMES = notebooks.names()
RUN = [name for name in NAMES if name not in notebooks.NEVER_RUN]
_LARGEST, _LARGEST_TOGETHER = 1_000_000, 4_000_000  # bytes
# Folders of a machine; "docs/..." and addresses of the web have no such start.
_MACHINE_PATH = re.compile(
    r"(?<![\w.])(/(tmp|work|home|root|usr|opt|content|Users|var|private)/|[A-Z]:\\)|site-packages"
)
# As tests/conftest.py sets them for this process.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "HF_HUB_OFFLINE": "1",
}
needs_flag = pytest.mark.skipif(
    os.environ.get("RSD_JAX_NOTEBOOKS") != "1",
    reason="takes minutes; RSD_JAX_NOTEBOOKS=1 runs it",
)


def _outputs(notebook):
    """All outputs of a notebook as text."""
    return [
        nbformat.from_dict(output)
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]


def _texts(outputs):
    for output in outputs:
        yield output.get("text", "")
        yield from (v for kind, v in output.get("data", {}).items() if kind != "image/png")
        yield from output.get("traceback", ())


def test_every_notebook_is_here():
    assert sorted(path.stem for path in notebooks.FOLDER.glob("*.ipynb")) == NAMES
    readme = (notebooks.FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"({name}.ipynb)" not in readme] == []


@pytest.mark.parametrize("name", NAMES)
def test_text_and_notebook_are_the_same(name):
    text, notebook = notebooks.read_text(name), notebooks.read_notebook(name)
    nbformat.validate(notebook)
    cells = [[(cell.cell_type, cell.source) for cell in each.cells] for each in (text, notebook)]
    assert cells[0] == cells[1], f"run python -m tests.notebooks {name}"
    assert notebook.metadata.jupytext.formats == "ipynb,py:percent"


@pytest.mark.parametrize("name", NAMES)
def test_it_begins_with_the_badge_and_the_installation(name):
    text = (notebooks.FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert notebooks.with_head(name, text) == text, f"run python -m tests.notebooks {name}"


def test_the_repository_is_named_by_one_value():
    known = notebooks.repository()
    for name in NAMES:
        text = (notebooks.FOLDER / f"{name}.py").read_text(encoding="utf-8")
        rest = text.replace(notebooks.head(name), "")
        assert known not in rest
        assert "rsd_jax.git" not in rest


def test_links_to_files_lead_somewhere():
    texts = [(notebooks.FOLDER / "README.md").read_text(encoding="utf-8")]
    for name in NAMES:
        cells = notebooks.read_text(name).cells
        texts += [cell.source for cell in cells if cell.cell_type == "markdown"]
    links = {link for text in texts for link in re.findall(r"\]\(([^)#\s]+)", text)}
    files = [link for link in links if not link.startswith("https://")]
    assert len(files) > 10
    assert [link for link in files if not (notebooks.FOLDER / link).exists()] == []


@pytest.mark.parametrize("name", RUN)
def test_outputs_are_whole_name_the_hardware_and_no_folder(name):
    notebook = notebooks.read_notebook(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = _outputs(notebook)
    assert [o.output_type for o in outputs if o.output_type == "error"] == []
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    texts = list(_texts(outputs))
    assert any("cores=" in text and "backend=" in text for text in texts)
    assert any("'jax': " in text for text in texts)
    assert [text for text in texts if _MACHINE_PATH.search(text)] == []


@pytest.mark.parametrize("name", notebooks.NEVER_RUN)
def test_a_notebook_that_was_never_run_has_no_outputs(name):
    assert _outputs(notebooks.read_notebook(name)) == []


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("written to /tmp/a.png", True),
        ("/home/someone/x.py:3: Warning", True),
        (r"C:\Users\x", True),
        ("lib/python3.12/site-packages/x.py", True),
        ("https://example.org/home/page", False),
        ("docs/results/experiment1.jsonl", False),
        ("10 tokens/s", False),
    ],
)
def test_paths_of_machines_are_told(text, is_path):
    assert bool(_MACHINE_PATH.search(text)) == is_path


def test_outputs_are_kept_only_with_their_code():
    new, old = notebooks.read_text("results"), notebooks.read_notebook("results")
    notebooks.keep_outputs(new, old)
    assert _outputs(new) == _outputs(old)
    new.cells[-2].source += "\nprint(1)"
    with pytest.raises(ValueError, match="code has changed"):
        notebooks.keep_outputs(new, old)


def test_sizes():
    sizes = {name: (notebooks.FOLDER / f"{name}.ipynb").stat().st_size for name in NAMES}
    assert max(sizes.values()) <= _LARGEST
    assert sum(sizes.values()) <= _LARGEST_TOGETHER


class _Distribution:
    def __init__(self, name, version):
        self.name, self.version = name, version


def _install(*, in_colab, before, after="0.11.0"):
    """Runs the install cell with a pip that installs nothing; the arguments of pip."""
    source = notebooks.read_text("quickstart").cells[1].source
    modules = {"google.colab": mock.Mock()} if in_colab else {}
    installed = [_Distribution(*each) for each in before.items()]
    with (
        mock.patch.dict(sys.modules, modules),
        mock.patch("subprocess.run") as pip,
        mock.patch("importlib.metadata.distributions", return_value=installed),
        mock.patch("importlib.metadata.version", return_value=after),
    ):
        exec(source, {})
    return [call.args[0][4:] for call in pip.call_args_list]


def test_the_install_cell_does_nothing_outside_of_colab():
    assert _install(in_colab=False, before={}) == []


def test_the_install_cell_keeps_the_jax_of_colab_and_its_accelerator():
    (arguments,) = _install(in_colab=True, before={"jax": "0.11.0", "jax_cuda12_plugin": "0.11.0"})
    assert arguments == [
        "--quiet",
        f"rsd_jax @ git+{notebooks.repository()}",
        "jax[cuda12]",
    ]
    assert "--upgrade" not in arguments


def test_the_install_cell_asks_for_a_restart_if_jax_was_replaced():
    with pytest.raises(RuntimeError, match="Restart the session"):
        _install(in_colab=True, before={"jax": "0.5.2"})


def _run(name, changes=None):
    """Runs a notebook on the CPU, some of its cells replaced; its outputs as text.

    Args:
      name: of the notebook.
      changes: pairs of a text of one cell and what stands there instead.
    """
    notebook = notebooks.read_text(name)
    for old, new in changes or ():
        (cell,) = [cell for cell in notebook.cells if old in cell.source]
        cell.source = cell.source.replace(old, new)
    notebooks.run(notebook, environment=_ENVIRONMENT)
    return "\n".join(_texts(_outputs(notebook)))


@needs_pages
def test_results_runs():
    assert "435 rows" in _run("results")


@needs_pages
def test_lossless_runs():
    said = _run("lossless", [("ROWS = 30_000", "ROWS = 3_000")])
    assert "lossless: no probability is off" in said
    assert "right: passed" in said
    assert said.count("Mine is not lossless") == 2


@needs_pages
def test_llama2_without_its_weights_says_what_to_do():
    with pytest.raises(CellExecutionError) as caught:
        _run("llama2")
    assert caught.value.ename == "FileNotFoundError"
    assert re.fullmatch(
        r"there is no model in models/Llama-2-7b-chat-hf: download it as the text above says, or "
        r"set TARGET and DRAFT to the folders that hold your models",
        caught.value.evalue,
    )


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A folder with a tiny chat model of random weights."""
    folder = tmp_path_factory.mktemp("stand_in")
    tokenizer = tiny_tokenizers.chatml()
    config = dataclasses.replace(TINY_CONFIG, vocab_size=len(tokenizer), num_layers=4)
    save_model(folder, config, tiny_params(0, config), dtype="float32")
    tokenizer.save_pretrained(folder)
    return folder


@needs_pages
def test_real_model_runs_on_a_tiny_stand_in(stand_in):
    """Random weights say nothing that ends, so the search has the tokens that it needs."""
    loaded = (
        f"rsd_jax.LoadedPair(rsd_jax.load_model({str(stand_in)!r}), None, "
        f"__import__('transformers').AutoTokenizer.from_pretrained({str(stand_in)!r}))"
    )
    said = _run(
        "real_model",
        [
            ('rsd_jax.load_pair("smollm2", source=SOURCE, draft=DRAFT)', loaded),
            ("max_iterations=60", "max_iterations=5"),
        ],
    )
    assert "4 layers" in said
    assert said.count("same text: True") == 2


@needs_flag
def test_llama2_runs_on_a_tiny_stand_in(stand_in):
    """Target and draft are the same model, so all that is drafted is accepted."""
    changes = [
        (f'pathlib.Path("models/{name}")', f"pathlib.Path({str(stand_in)!r})")
        for name in ("Llama-2-7b-chat-hf", "llama-68m")
    ]
    said = _run("llama2", changes)
    assert "rsd_s/coupling" in said


@needs_flag
@pytest.mark.parametrize("name", ["quickstart", "tree_anatomy", "swift"])
def test_the_slow_notebooks_run(name):
    assert "cores=" in _run(name)
