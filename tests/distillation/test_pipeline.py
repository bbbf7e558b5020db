"""The stages of a work directory, from text to a compared and exported pair, on tiny models."""

import dataclasses
import importlib.util
import json
import re

import jax
import numpy as np
import pytest

from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.data.mixture import Mixture
from rsd_jax.distillation.pipeline import STAGES, run_stage
from rsd_jax.distillation.report import report
from rsd_jax.distillation.responses.on_policy import mix_on_policy
from rsd_jax.distillation.responses.source import ResponseSource
from rsd_jax.distillation.settings import Settings
from rsd_jax.distillation.stages import training as draft_training
from rsd_jax.distillation.stages.training import distil, draft_data, train_target
from rsd_jax.distillation.workspace import Workspace
from rsd_jax.errors import ConfigError
from rsd_jax.models.checkpoint import read_config
from rsd_jax.models.loading import load_tokenizer
from tests import ROOT
from tests.gguf_writing import llama_metadata, llama_tensors, tokenizer_metadata, write

pytestmark = pytest.mark.standard_promotion  # optax

_TRAINED = ("target", "draft_warm_start", "draft")


def _config(name):
    path = ROOT / f"configs/distill/{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config().copy_and_resolve_references().unlock()


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A small library: 80 files, each with a function that has a docstring."""
    root = tmp_path_factory.mktemp("library")
    for i in range(80):
        body = "".join(f"    total_{j} = argument + {j}\n" for j in range(60))
        (root / f"module{i}.py").write_text(
            f'def function_{i}(argument):\n    """Return the argument plus {i}."""\n'
            f"    return argument + {i}\n\n\ndef long_{i}(argument):\n{body}"
        )
    return root


def _shrink(config):
    for stage in _TRAINED:
        if stage not in config:
            continue
        model, recipe = config[stage].model, config[stage].recipe
        model.update(vocab_size=300, hidden_size=16, intermediate_size=16, head_dim=4)
        model.update(num_layers=1, num_heads=2, num_kv_heads=1, max_positions=1024)
        recipe.update(steps=2, batch_size=1, window=240, eval_windows=1, optimizer="adamw")
        # Equal, so that runs on plain text share one program.
        recipe.update(learning_rate=1e-3, warmup_steps=1, compute_dtype="float32", seed=0)
        recipe.update(checkpoint_every=2, accumulate=1, remat=False)
    config.draft.recipe.seed = 1  # so that a start of its own would be another
    config.max_prompt_tokens = 200
    config.responses.update(batch_size=4, max_new_tokens=4, top_logprobs=8)
    config.decode.update(max_new_tokens=4, batch_size=2)
    config.decode.methods = {"sd_1": {"name": "sd", "length": 1}}
    return config


@pytest.fixture(scope="module")
def made(library, tmp_path_factory):
    """The quickstart configuration, shrunk, after every stage."""
    with jax.numpy_dtype_promotion("standard"):  # optax
        return _make(library, tmp_path_factory.mktemp("work"))


def _workspace(config, root):
    return Workspace(Settings.from_config(config), root, root / "export")


def _make(library, root):
    config = _shrink(_config("quickstart"))
    config.corpus_root, config.vocab_size = str(library), 300
    config.number_words.update(train=20, heldout=2)
    config.prompts.update(library=0, number_words=2, docstrings=2)
    config.decode.prompts = {"number_words": 2}
    config.decode.scored = {"number_words": 2}
    config.losses.objectives = ("cross_entropy", "lk")
    made = _workspace(config, root)
    with pytest.raises(ConfigError, match="run the text stage first"):
        run_stage(made, "target")
    with pytest.raises(ConfigError, match="no results"):
        report(root)
    progress = []
    for stage in (*STAGES, "losses"):
        run_stage(made, stage, progress.append)
    assert [p.shards for p in progress] == [1]
    return config, made


def test_quickstart_config_fits_its_budget(tmp_path):
    workspace = _workspace(_config("quickstart"), tmp_path)
    assert all(workspace.recipe(stage).steps > 0 for stage in _TRAINED)
    target, draft = (workspace.model(stage).config for stage in ("target", "draft"))
    assert workspace.model("draft_warm_start").config == draft
    assert draft.num_parameters / target.num_parameters < 0.12
    assert 2 * (draft.num_parameters + target.num_parameters) < 24e6  # bytes in bfloat16
    with pytest.raises(ConfigError, match="stage='targets'"):
        run_stage(workspace, "targets")
    with pytest.raises(ConfigError, match="run the generate stage first"):
        workspace.responses()


def test_what_the_stages_leave(made):
    made = made[1]
    root = made.root
    exported = json.loads((root / "export.json").read_text())
    assert list(exported) == ["library", "docstrings", "number_words"]
    for measured in exported.values():
        assert 0 < measured["draft"]["acceptance_t1"] <= 1
        assert measured["target"]["loss"] < 10
    for name in ("target", "draft"):
        files = {path.name for path in (made.export_dir / name).iterdir()}
        assert files >= {"config.json", "model.safetensors", *bpe.FILES}
    decoded = json.loads((root / "decode.json").read_text())
    assert [row["task"] for row in decoded["rows"]] == ["number_words", "all"]
    assert 1 <= decoded["rows"][0]["block_efficiency"] <= 2
    assert decoded["scores"]["number_words"]["metric"] == "bleu"
    losses = json.loads((root / "losses.json").read_text())
    assert list(losses) == ["cross_entropy", "lk"]
    for result in losses.values():
        value, low, high = result["heldout"]["acceptance_t1"]
        assert low <= value <= high
        simulated = result["heldout"]["block_efficiency_t0.3_rsd_s_6x5"]
        assert 1 <= simulated[0] <= 6
    shown = re.sub(" +", " ", report(root))
    for expected in (
        "| `draft` | 2 |",
        "| number_words | sd_1 | 2 |",
        "| `lk` |",
        "| sd_1 / cross",
        r"| `nrefs:1\|case:mixed\|",
    ):
        assert expected in shown


def test_every_run_of_the_comparison_starts_from_the_warm_start(made):
    config, made = made
    root = made.root
    start = made.params("draft_warm_start")["embed_tokens"]["embedding"]
    ends = [
        np.asarray(made.params("draft", run)["embed_tokens"]["embedding"])
        for run in ("draft", "losses/lk", "losses/cross_entropy")
    ]
    for end in ends:  # Two steps of AdamW at 1e-3 go no further.
        assert 0 < np.abs(end - start).max() < 3e-3
    assert len({end.tobytes() for end in ends}) == 3
    # A second call finds everything done.
    before = (root / "losses.json").stat().st_mtime_ns
    run_stage(made, "losses")
    assert (root / "losses.json").stat().st_mtime_ns == before
    # What an earlier version wrote: the sections as they stood in the configuration.
    results = json.loads((root / "losses.json").read_text())
    written = {name: config[name].to_dict() for name in ("draft", "decode")}
    del written["draft"]["recipe"]["objective"]
    for result in results.values():
        result["settings"] = written
    (root / "losses.json").write_text(json.dumps(results))
    run_stage(made, "losses")
    config = config.copy_and_resolve_references().unlock()
    config.draft.recipe.steps = 3
    with pytest.raises(ConfigError, match="'cross_entropy' made with other settings"):
        run_stage(_workspace(config, root), "losses")
    config.tokenizer_documents, config.vocab_size = 1, 299
    with pytest.raises(ConfigError, match="were trained with another tokenizer"):
        run_stage(_workspace(config, root), "text")


def test_windows_of_the_draft(made):
    workspace = made[1]
    stored = draft_data(workspace, {"responses": 1.0}, stored=True)
    assert isinstance(stored, ResponseSource)
    assert stored.top is not None
    mixed = draft_data(workspace, {"responses": 3.0, "text": 1.0}, stored=False)
    assert isinstance(mixed, Mixture)
    weights = {source.name: source.weight for source in mixed.sources}
    assert weights["responses"] == 3.0
    assert sum(weights.values()) == pytest.approx(4.0)
    assert weights["library"] == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="must give responses or text a share"):
        draft_data(workspace, {"response": 1.0}, stored=False)
    with pytest.raises(ConfigError, match="must give responses or text a share"):
        draft_data(workspace, {"responses": 0.0}, stored=False)


def test_a_draft_that_writes_windows_itself(made, monkeypatch):
    """A mixture of text, responses and windows of the draft, scored by the target in training."""
    config, root = made[0].copy_and_resolve_references().unlock(), made[1].root
    config.draft.update(stored_logits=False, data={"responses": 1.0, "text": 1.0})
    config.draft.on_policy.update(fraction=0.5, max_new_tokens=4)
    config.draft.recipe.batch_size = 2
    workspace = _workspace(config, root)
    recipe = workspace.recipe("draft")
    rewritten = []

    def record(windows, *args, **named):
        new = mix_on_policy(windows, *args, **named)
        rewritten.append(int((new.tokens != windows.tokens).any(axis=1).sum()))
        return new

    monkeypatch.setattr(draft_training, "mix_on_policy", record)
    distil(workspace, recipe, "mixed")
    assert rewritten == [1, 1]  # Half of two windows, in each of two steps.
    lines = (root / "mixed/metrics.jsonl").read_text().splitlines()
    assert [np.isfinite(row["loss"]) for row in map(json.loads, lines) if "loss" in row] == [True]
    mesh = jax.make_mesh((1, 1), ("data", "model"))
    with pytest.raises(ConfigError, match="on_policy runs on one device"):
        distil(dataclasses.replace(workspace, mesh=mesh), recipe, "mesh")
    config.draft.stored_logits = True
    with pytest.raises(ConfigError, match="stored_logits needs windows from responses only"):
        _workspace(config, root)
    config.draft.stored_logits, config.target_directory = False, ""
    config.target.recipe.objective = "forward_kl"
    with pytest.raises(ConfigError, match="target: objective='forward_kl' needs a teacher"):
        train_target(_workspace(config, root))


def _as_gguf(directory, path):
    """The model of a directory as a GGUF file, with its tokenizer."""
    config, tokenizer = read_config(directory), load_tokenizer(directory)
    described = tokenizer_metadata(tokenizer, "gpt-2")
    flags = {"tokenizer.ggml.add_bos_token": True}
    metadata = llama_metadata(config) | described | flags
    tensors = llama_tensors(directory, config)
    return write(path, metadata, {name: v.astype(np.float32) for name, v in tensors.items()})


@pytest.mark.parametrize("form", ["directory", "gguf", "gguf and a tokenizer of its own"])
def test_the_tokenizer_is_that_of_the_target_or_the_named_one(made, tmp_path, form):
    directory = made[1].export_dir / "target"
    config = _shrink(_config("any_llama"))
    config.target_directory = str(directory)
    if form != "directory":
        config.target_directory = str(_as_gguf(directory, tmp_path / "target.gguf"))
    if form.startswith("gguf and"):
        (tmp_path / "tokenizer").mkdir()
        bpe.copy_tokenizer(directory, tmp_path / "tokenizer")
        config.tokenizer = str(tmp_path / "tokenizer" / "tokenizer.json")
    workspace = _workspace(config, tmp_path / "work")
    expected = bpe.load_tokenizer(directory)
    text = "def f(x):\n  return '</s>' + x"
    for encoder in (workspace.tokenizer(), bpe.load_tokenizer(workspace.tokenizer_directory)):
        assert encoder.encode(text).ids == expected.encode(text).ids
    assert workspace.chat_tokenizer.get_vocab() == expected.get_vocab()
    assert workspace.ends == (bpe.BOS_ID, (bpe.EOS_ID,))
    exported = tmp_path / "exported"
    exported.mkdir()
    bpe.copy_tokenizer(workspace.tokenizer_directory, exported, model=workspace.target_directory)
    assert bpe.load_tokenizer(exported).encode(text).ids == expected.encode(text).ids


@pytest.mark.parametrize("name", ["llama2_115m", "any_llama"])
def test_a_target_of_ones_own(made, tmp_path, name):
    """A shrunk configuration on text files, for the target that another test exported.

    `any_llama` reads the target from a GGUF file.
    """
    (tmp_path / "text").mkdir()
    for i in range(12):
        (tmp_path / f"text/{i}.txt").write_text(
            f"def function_{i}(argument):\n    return {i}\n" * 20
        )
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"def f_{i}("}) + "\n" for i in range(3)))
    config = _shrink(_config(name))
    if name == "any_llama":  # the vocabulary comes from the target
        config.draft.model.vocab_size = config.draft_warm_start.model.vocab_size = None
    config.target_directory = str(made[1].export_dir / "target")
    if name == "any_llama":
        directory = made[1].export_dir / "target"
        config.target_directory = str(_as_gguf(directory, tmp_path / "target.gguf"))
    config.files.update(patterns=(str(tmp_path / "text"),), held_out_per_mille=300)
    for files in (config.prompt_files, config.decode.prompt_files):
        files.update(patterns=(str(prompts),), template="{prompt}")
    config.responses.temperatures = (0.0, 1.0)
    root = tmp_path / "work"
    workspace = _workspace(config, root)
    for stage in STAGES:
        run_stage(workspace, stage)
    assert {path.name for path in workspace.export_dir.iterdir()} == {"draft"}
    assert not (root / "target").exists()
    assert workspace.model("draft").config.eos_ids == (bpe.EOS_ID,)
    kept = {"any_llama": "float32", "llama2_115m": "bfloat16"}[name]  # on a CPU
    assert workspace.model("target").dtype == workspace.target.model.dtype == kept
    assert list(json.loads((root / "export.json").read_text())) == ["files"]
    decoded = json.loads((root / "decode.json").read_text())
    assert [(row["task"], row["num_prompts"]) for row in decoded["rows"]] == [
        ("files", 3),
        ("all", 3),
    ]
    assert "| files | sd_1 | 3 |" in re.sub(" +", " ", report(root))
    if name == "any_llama":
        assert workspace.model("draft").vocab_size == 300
        return
    config.prompt_files.patterns = ()
    with pytest.raises(ConfigError, match="self_prompts and template_prompts give no prompts"):
        run_stage(_workspace(config, root), "generate")
    config.draft.model.vocab_size = 299
    with pytest.raises(ConfigError, match=r"vocab_size=300, the draft has 299"):
        run_stage(_workspace(config, root), "draft")
    config.draft.model.update(vocab_size=300, num_layers=2)
    with pytest.raises(ConfigError, match=r"draft\.model\.num_layers=2, draft_warm_start\.mod"):
        run_stage(_workspace(config, root), "draft")


def test_a_tokenizer_of_ones_own_files(tmp_path):
    """If the mixture has only text files, the standard library is not read."""
    for i in range(12):
        (tmp_path / f"{i}.txt").write_text("zyzzyva " * 40)
    config = _config("quickstart")
    config.vocab_size, config.mixture = 300, {"files": 1.0}
    config.corpus_root = str(tmp_path / "nowhere")
    config.files.update(patterns=(str(tmp_path / "*.txt"),), held_out_per_mille=300)
    workspace = _workspace(config, tmp_path / "work")
    run_stage(workspace, "text")
    assert [path.name for path in (tmp_path / "work/corpus").iterdir()] == ["files"]
    assert len(workspace.tokenizer().encode("zyzzyva", add_special_tokens=False).ids) == 1
