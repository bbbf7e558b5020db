"""Malformed input that once ended in an error of a library, a huge array or a wrong result."""

import json

import numpy as np
import pytest

from rsd_jax.cli import main
from rsd_jax.core.tree import MOST_NODES, TreeShape
from rsd_jax.distillation.settings import Settings
from rsd_jax.distillation.target_vocabulary import with_target_vocabulary
from rsd_jax.engine.methods import build_method, method_of_tree
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.stream.settings import StreamSettings
from rsd_jax.models.gguf_config import config_json
from rsd_jax.models.gguf_files import GgufFile, GgufTensor
from rsd_jax.models.gguf_weights import stored_tensors
from rsd_jax.search import files as search_files
from tests.gguf_writing import write
from tests.malformed.model_files import MODEL_FILES, gguf_metadata, gguf_tensors
from tests.malformed.record_files import RECORD_FILES
from tests.malformed.watching import Refused, outcome

_DEEP = b"[" * 100_000


def _refusal(name, change, tmp_path):
    kind = (MODEL_FILES | RECORD_FILES)[name]
    path = kind.make(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    found = outcome(lambda: kind.read(tmp_path))
    assert isinstance(found, Refused), found
    return found.message


def _set(**values):
    def change(data):
        first, newline, others = data.partition(b"\n") if b"\n{" in data else (data, b"", b"")
        return json.dumps(json.loads(first) | values).encode() + newline + others

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json of a llama", lambda data: _DEEP, "nested too deeply"),
        ("generation_config.json", lambda data: _DEEP, "nested too deeply"),
        ("rows of an experiment", lambda data: _DEEP + b"\n" + data, "nested too deeply"),
        ("prompts of a user", lambda data: _DEEP, "nested too deeply"),
        ("plain prompts", lambda data: _DEEP, "nested too deeply"),
        ("file of a search", lambda data: _DEEP, "nested too deeply"),
        ("config.json of a llama", _set(num_hidden_layers=10**9), "at most 10000"),
        ("config.json of a opt", _set(num_hidden_layers=10**9), "at most 10000"),
        ("config.json of a llama", _set(hidden_size=2**63), "at most 2147483647"),
        ("config.json of a llama", _set(rope_theta=10**400), "rope_theta="),
        ("config.json of a llama", _set(rope_theta=1e308), "rope_theta=1e+308"),
        ("config.json of a llama", _set(rms_norm_eps=float("inf")), "rms_norm_eps=inf"),
        ("config.json of a llama", _set(eos_token_id=2**40), "expected token ids"),
        ("config.json of a llama", _set(architectures=5), "architectures=5"),
        ("config.json of a llama", _set(model_type=["llama"]), "model_type=['llama']"),
        ("config.json of a qwen2", _set(use_sliding_window="no"), "use_sliding_window='no'"),
        ("config.json of a qwen2", _set(layer_types=[["x"]]), "layer_types"),
        ("token_map.json", _set(target_vocab_size=10**12), "target_vocab_size"),
        ("index of shards", _set(weight_map={"x": "x" * 300}), "files that are missing"),
        ("adapter_config.json", _set(lora_alpha=float("nan")), "lora_alpha=nan"),
        ("adapter_config.json", _set(lora_alpha=10**400), "at most"),
        ("rows of an experiment", _set(batch_size=10**400), "'batch_size'"),
        ("rows of an experiment", _set(top_p=10**400), "'top_p'"),
        ("plain prompts", _set(reference=0), "no text"),
        ("plain prompts", lambda data: b"\xff" + data, "line 1"),
        ("manifest.json", _set(settings={"seed": float("nan")}), "no manifest"),
        ("manifest.json", _set(shards={}), "changed by hand"),
        ("tokenizer.json", _set(model={"type": "BPE", "vocab": 1}), "cannot be read"),
        ("tokenizer.json for training", _set(model=[]), "cannot be read"),
        ("tokenizer_config.json", _set(tokenizer_class=[1]), "cannot be read"),
        ("tokenizer_config.json", _set(model_max_length="x"), "cannot be read"),
    ],
)
def test_a_file_is_refused(name, change, message, tmp_path):
    assert message in _refusal(name, change, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("since_adopted", None),
        ("best_score", "x"),
        ("scores", True),
        ("resting", 0),
        ("iterations", 0.0),
        ("points", [[float("inf")] * 4]),
    ],
)
def test_fields_of_a_search_are_refused_though_their_checksum_is_right(field, value, tmp_path):
    def change(data):
        content = json.loads(data)
        content["search"][field] = value
        content["checksum"] = search_files._checksum(content["search"])
        return json.dumps(content).encode()

    assert "is corrupt" in _refusal("file of a search", change, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split.count": "x"}, "one of x parts"),
        ({"tokenizer.ggml.tokens": True}, "tokens of a wrong type"),
        ({"tokenizer.ggml.merges": 1.5}, "merges of a wrong type"),
        ({"tokenizer.ggml.eos_token_id": "x"}, "expected token ids"),
        ({"tokenizer.ggml.add_bos_token": "x"}, "add_bos_token of a wrong type"),
        ({"tokenizer.chat_template": 3}, "chat_template"),
        ({"llama.rope.freq_base": "x"}, "rope.freq_base='x'"),
        ({"llama.block_count": True}, "block_count=True"),
    ],
)
def test_metadata_of_a_gguf_file_are_refused(changes, message, tmp_path):
    kind = MODEL_FILES["GGUF file"]
    write(tmp_path / "model.gguf", gguf_metadata() | changes, gguf_tensors())
    found = outcome(lambda: kind.read(tmp_path))
    assert isinstance(found, Refused)
    assert message in found.message


def test_a_number_of_heads_that_is_a_float_is_a_number(tmp_path):
    kind = MODEL_FILES["GGUF file"]
    read = []
    for heads in (4, 4.0):
        write(
            tmp_path / "model.gguf",
            gguf_metadata() | {"llama.attention.head_count": heads},
            gguf_tensors(),
        )
        _, params, _ = kind.read(tmp_path)
        read.append(params["layers_0"]["self_attn"]["q_proj"]["kernel"])
    np.testing.assert_array_equal(*read)


def test_divisors_of_0_are_refused(tmp_path):
    metadata = gguf_metadata() | {"general.architecture": "llama"}
    zeros = GgufTensor((4,), lambda: np.asarray([1, 0, 2, 8], np.float32))
    table = GgufTensor((32, 16), lambda: np.zeros((32, 16), np.float32))
    file = GgufFile(tmp_path, metadata, {"rope_freqs.weight": zeros, "token_embd.weight": table})
    assert "rope_freqs.weight" in outcome(lambda: config_json(file)).message
    assert "rope_freqs.weight" not in stored_tensors(file)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "sd", "length": 2**40},
        {"name": "rsd_s", "width": 2, "length": 10**400},
        {"name": "rsd_s", "width": 2**20, "length": 2**20},
        {"name": "spectr", "num_drafts": 2**63, "length": 2},
        {"name": "rsd_c", "branching": (2,) * 64},
        {"name": "rsd_c", "branching": (2**31, 2**31, 2)},
        {"name": "swift", "length": 2**63},
        {"name": "swift", "counts": (1, 3, 5, 2**40)},
        {"name": "swift", "confidences": 5},
        {"name": "sd", "length": 2, "draft_temperature": "x"},
        {"name": "sd", "length": 2, "verifier": []},
        {"name": []},
    ],
)
def test_a_method_that_cannot_be_is_refused(options):
    assert isinstance(outcome(lambda: build_method(**options)), Refused)


def test_a_tree_has_a_largest_size():
    assert TreeShape((1, MOST_NODES - 1)).num_nodes == MOST_NODES
    with pytest.raises(ConfigError, match="too large"):
        TreeShape((1, MOST_NODES))
    for tree in ("9" * 5000, "٣"):
        with pytest.raises(ConfigError, match="not understood"):
            method_of_tree("sd", tree)


def test_settings_without_sections_are_refused():
    for values in ({"draft": 1.5}, {"responses": 1.5}, {"draft": {"model": 1}}):
        assert isinstance(outcome(lambda values=values: Settings.from_config(values)), Refused)
    assert with_target_vocabulary({"draft": 1.5}) == {"draft": 1.5}
    values = {"pair": {"shipped": "quickstart"}, "task_name": "x", "method": {}, "search": {}}
    values |= {"task": {"num_prompts": 1, "temperatures": [0.0], "max_new_tokens": 99}}
    found = outcome(lambda: StreamSettings.from_config(values | {"out_dir": "x"}))
    assert "`name`" in found.message


def test_a_tree_of_many_digits_is_one_line(capsys):
    given = ("generate", "--prompt", "x", "--method", "sd", "--tree", "9" * 5000)
    assert main.main(given) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(): return x", "NameError: name 'x'"),
        ("def get_config(): return {}['a']", "KeyError: 'a'"),
        ("def get_config(): return get_config()", "RecursionError"),
        ("def get_config(variant): return None", "TypeError: get_config() missing 1"),
        ("def get_config(): return None", "must return a ConfigDict"),
        ("get_config = 3", "TypeError: 'int' object"),
        ("\0", "null bytes"),
    ],
)
def test_a_mistake_in_a_file_of_settings_is_one_line(text, message, capsys, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(text)
    assert main.main(("evaluate", f"--config={path}", "--dry_run")) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith(f"error: --config={path}")
    assert said.count("\n") == 1
