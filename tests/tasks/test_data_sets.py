"""Data sets as TensorFlow Datasets writes them, read without TensorFlow; errors for missing data.

Separate processes write and read, with TensorFlow hidden if it is installed.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from rsd_jax.errors import ConfigError
from rsd_jax.tasks import get_task
from tests import ROOT
from tests.write_data_sets import DOLLY_LINES, WMT, XSUM

_FOLDERS = {
    "wmt18_de_en": "wmt_translate/de-en.newstest2018/1.0.0",
    "xsum": "xsum/1.1.0",
    "dolly": "databricks_dolly/1.0.0",
}
_SPLITS = {"wmt18_de_en": "test", "xsum": "test", "dolly": "train"}
_READ = """
import json, sys
from tests.write_data_sets import without_tensorflow
without_tensorflow()
import rsd_jax.tasks
assert not [name for name in sys.modules if name.startswith("tensorflow")], "a late import"
tasks = {name: rsd_jax.tasks.get_task(name) for name in ("wmt18_de_en", "xsum", "dolly")}
prompts = {
    name: [(p.name, p.text, p.reference) for p in task.test_prompts(None)]
    for name, task in tasks.items()
}
assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
print(json.dumps(prompts))
"""


def _python(data_dir: pathlib.Path, *arguments: str) -> str:
    environment = os.environ | {"TFDS_DATA_DIR": str(data_dir)}
    run = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds") / "data sets"
    _python(path, "-m", "tests.write_data_sets")
    return path


@pytest.fixture(scope="module")
def read(data_dir):
    """Name, text and reference of all prompts, by task, with the default templates."""
    return json.loads(_python(data_dir, "-c", _READ))


def test_every_record_is_a_prompt(read):
    articles = [(d, s) for d, s in XSUM if d and s]
    assert len(articles) == 6
    expected = {
        "wmt18_de_en": [(f"German: {de}\nEnglish:", f" {en}") for de, en in WMT],
        "xsum": [
            (f"Article: {d}\n\nSummary of the article in one sentence:", f" {s}")
            for d, s in articles
        ],
        "dolly": [
            (
                f"[INST] {line['instruction']}\n\nContext: It is a number. [/INST]"
                if line["context"]
                else f"[INST] {line['instruction']} [/INST]",
                f" {line['response']}",
            )
            for line in DOLLY_LINES
        ],
    }
    for task, prompts in read.items():
        assert Counter((text, reference) for _, text, reference in prompts) == Counter(
            expected[task]
        )
        # Shuffled by TensorFlow Datasets, under the index of each record.
        indices = [int(name.removeprefix(f"{task}/{_SPLITS[task]}/")) for name, _, _ in prompts]
        assert indices == sorted(indices)
        assert [(text, reference) for _, text, reference in prompts] != expected[task]


@pytest.mark.parametrize("name", _FOLDERS)
def test_what_a_task_says(data_dir, read, name):
    task = get_task(name, data_dir=data_dir)
    assert (task.name, task.template) == (name, task.templates[0])
    assert sorted(task.templates) == ["base", "chat"]
    assert task.metric == {"wmt18_de_en": "bleu", "xsum": "rouge2", "dolly": None}[name]
    prompts = task.test_prompts(3)
    assert [[p.name, p.text, p.reference] for p in prompts] == read[name][:3]
    assert task.follow_up(prompts[0], ["an answer"]) is None
    with pytest.raises(ConfigError, match=f"count=10, but the task '{name}' has {len(read[name])}"):
        task.test_prompts(10)
    if task.metric is not None:
        score = task.score([p.reference + "\nGerman: more" for p in prompts], prompts)
        assert (score.metric, score.value) == (task.metric, pytest.approx(100))


def test_the_whole_of_wmt18_serves_as_well(data_dir, tmp_path):
    shutil.copytree(data_dir / "wmt18_translate", tmp_path / "wmt18_translate")
    whole = get_task("wmt18_de_en", data_dir=tmp_path).test_prompts(None)
    alone = get_task("wmt18_de_en", data_dir=data_dir).test_prompts(None)
    assert sorted(p.text for p in whole) == sorted(p.text for p in alone)


def test_the_newest_version_is_read(data_dir, tmp_path):
    old, new = tmp_path / "xsum/1.9.0", tmp_path / "xsum/1.10.0"
    shutil.copytree(data_dir / "xsum/1.1.0", old)
    shutil.copytree(old, new)
    (old / "features.json").unlink()
    (tmp_path / "xsum/2.0.0.incomplete").mkdir()
    assert len(get_task("xsum", data_dir=tmp_path).test_prompts(None)) == 6


@pytest.mark.parametrize("name", _FOLDERS)
def test_what_is_missing_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "some where"))
    with pytest.raises(ConfigError) as error:
        get_task(name)
    text = str(error.value)
    assert str(tmp_path / "some where" / _FOLDERS[name].rpartition("/")[0]) in text
    assert f"export TFDS_DATA_DIR='{tmp_path / 'some where'}'\n" in text
    assert "array_record" in text
    assert "pip install -e '.[datasets]'" in text
    assert "give path, a JSONL file with the fields prompt and reference" in text
    assert ("tfds build xsum" in text) == (name == "xsum")
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "tensorflow_datasets"))):
        get_task(name)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "elsewhere"))):
        get_task(name, data_dir=tmp_path / "elsewhere")


def _replaced(old: str, new: str):
    def edit(folder):
        info = folder / "dataset_info.json"
        text = info.read_text(encoding="utf-8")
        assert old in text
        info.write_text(text.replace(old, new), encoding="utf-8")

    return edit


def _shard(folder: pathlib.Path) -> pathlib.Path:
    [shard] = folder.glob("*.array_record-*")
    return shard


_DAMAGE = {
    "format": (_replaced('"array_record"', '"tfrecord"'), "is in the format tfrecord, which has"),
    "split": (_replaced('"test"', '"dev"'), r"has the splits \['dev'\], not 'test'"),
    "json": (_replaced("{", "["), "1.1.0 cannot be read"),
    "features": (lambda folder: (folder / "features.json").unlink(), "1.1.0 cannot be read"),
    "fields": (
        lambda folder: shutil.copy(
            folder.parents[1] / "databricks_dolly/1.0.0/features.json", folder
        ),
        r"has no fields \['document', 'summary'\], but \['category'",
    ),
    "no shard": (lambda folder: _shard(folder).unlink(), "record 0 of .* cannot be read"),
    "shard": (lambda folder: _shard(folder).write_bytes(b"no"), "record 0 of .* cannot be read"),
}


@pytest.mark.parametrize("kind", _DAMAGE)
def test_damaged_data_sets_are_named(data_dir, tmp_path, kind):
    edit, message = _DAMAGE[kind]
    copy = shutil.copytree(data_dir, tmp_path / "copy")
    edit(copy / _FOLDERS["xsum"])
    with pytest.raises(ConfigError, match=message) as error:
        get_task("xsum", data_dir=copy)
    assert "prepare it again, once that folder is gone:" in str(error.value)
    assert "tfds build xsum --file_format=array_record" in str(error.value)


def test_without_tensorflow_datasets(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ConfigError, match=r"cannot be imported.*pip install -e '\.\[datasets\]'"):
        get_task("xsum", data_dir=data_dir)
