"""The files that GitHub and release tools read are of the form that these ask for."""

import importlib.util
import subprocess
import sys

import pytest

from tests import ROOT

_WORKFLOWS = ROOT / ".github/workflows"
_FORMS = ROOT / ".github/ISSUE_TEMPLATE"
# Schema, as check-jsonschema names it, to files. It brings the schemas, so nothing is fetched.
_FILES = {
    "vendor.github-workflows": sorted(_WORKFLOWS.glob("*.yml")),
    "vendor.github-issue-forms": sorted(set(_FORMS.glob("*.yml")) - {_FORMS / "config.yml"}),
    "vendor.github-issue-config": [_FORMS / "config.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}


def _check(schema, files):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    return subprocess.run([*command, *map(str, files)], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("schema", _FILES)
def test_files_follow_their_schemas(schema, tmp_path):
    files = _FILES[schema]
    assert files
    done = _check(schema, files)
    assert done.returncode == 0, done.stdout
    # Mutant: a key that the schema does not know.
    broken = tmp_path / files[0].name
    broken.write_text(files[0].read_text() + "\nno_such_key: 1\n")
    assert _check(schema, [broken]).returncode == 1


def test_hooks_call_what_is_there():
    """Every program of the local hooks is one of the test tools; nothing is fetched for a hook."""
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = [line.split("entry:")[1].split() for line in text.splitlines() if "entry:" in line]
    assert text.count("repo:") == text.count("repo: local") == 1
    assert len(entries) == text.count("- id:") == text.count("language: system")
    for python, option, module, *_ in entries:
        assert (python, option) == (".venv/bin/python", "-m")
        assert importlib.util.find_spec(module) is not None
