"""config.json as transformers 4 and 5 write it, and refused files."""

import dataclasses
import json

import numpy as np
import pytest

from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.checkpoint import read_config
from rsd_jax.models.config import LlamaConfig, RopeConfig
from rsd_jax.models.families import family_of
from rsd_jax.models.hf_config import config_from_hf, config_to_hf
from rsd_jax.models.llama import LlamaModel
from rsd_jax.models.rope import inverse_frequencies
from rsd_jax.models.shapes import NAMED_CONFIGS

_REQUIRED = {
    "model_type": "llama",
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_ROPES = {
    "default": RopeConfig(theta=500000.0),
    "linear": RopeConfig(kind="linear", theta=500.0, factor=2.5),
    "llama3": RopeConfig(
        kind="llama3",
        theta=500.0,
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position=64,
    ),
}
# As transformers 4.57.1 wrote it; `pretraining_tp`, `use_cache` and the like are in every file.
_VERSION_4 = _REQUIRED | {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": [2, 7],
    "head_dim": 8,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "num_key_value_heads": 3,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": _LLAMA3,
    "rope_theta": 500.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.57.1",
    "use_cache": True,
}


def test_version_4():
    assert config_from_hf(_VERSION_4) == LlamaConfig(
        vocab_size=101,
        hidden_size=48,
        intermediate_size=80,
        num_layers=2,
        num_heads=6,
        num_kv_heads=3,
        head_dim=8,
        max_positions=512,
        norm_eps=1e-6,
        rope=_ROPES["llama3"],
        tied_embeddings=True,
        bos_id=1,
        eos_ids=(2, 7),
    )


def test_version_4_before_rope_type():
    old = _REQUIRED | {"rope_scaling": {"type": "linear", "factor": 2}}
    assert config_from_hf(old).rope == RopeConfig(kind="linear", factor=2.0)


@pytest.mark.parametrize("kind", _ROPES)
def test_what_transformers_writes_is_read(kind, tmp_path):
    """Every key that the installed version writes is accepted with its meaning there."""
    import torch
    import transformers

    written = transformers.LlamaConfig(
        **_REQUIRED | {"max_position_embeddings": 512, "dtype": torch.bfloat16},
        rope_parameters={"rope_theta": 500.0, **(_LLAMA3 | {"rope_type": kind})}
        if kind == "llama3"
        else {"rope_type": kind, "factor": 2.5, "rope_theta": 500.0}
        if kind == "linear"
        else {"rope_type": "default", "rope_theta": 500000.0},
        architectures=["LlamaForCausalLM"],
    )
    written.save_pretrained(tmp_path)
    config = read_config(tmp_path)
    assert config.rope == _ROPES[kind]
    assert config.max_positions == 512
    assert config.head_dim == 8


def test_absent_keys_mean_the_defaults_of_transformers():
    import transformers

    theirs = transformers.LlamaConfig(**{k: v for k, v in _REQUIRED.items() if k != "model_type"})
    ours = config_from_hf(_REQUIRED)
    assert (ours.max_positions, ours.norm_eps) == (2048, 1e-6)
    assert ours.rope == RopeConfig(kind="default", theta=10000.0)
    assert ours.num_kv_heads == ours.num_heads == theirs.num_key_value_heads
    assert ours == config_from_hf(theirs.to_dict())


def test_null_means_absent():
    nulls = dict.fromkeys(
        ["head_dim", "num_key_value_heads", "rope_scaling", "rope_parameters", "pad_token_id"]
    )
    assert config_from_hf(_REQUIRED | nulls) == config_from_hf(_REQUIRED)
    assert config_from_hf(_REQUIRED | {"bos_token_id": None, "eos_token_id": None}).eos_ids == ()


@pytest.mark.parametrize("kind", _ROPES)
def test_transformers_reads_what_we_write(kind, tmp_path):
    """For every key that its model code reads, transformers gets the same value."""
    import torch
    import transformers
    from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaRotaryEmbedding

    config = LlamaConfig(
        vocab_size=101,
        hidden_size=48,
        intermediate_size=80,
        num_layers=2,
        num_heads=6,
        num_kv_heads=3,
        head_dim=10,
        max_positions=300,
        norm_eps=3e-5,
        rope=_ROPES[kind],
        attention_bias=True,
        mlp_bias=True,
        tied_embeddings=True,
        eos_ids=(5, 6),
    )
    content = config_to_hf(config) | {"torch_dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(content))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.dtype == torch.bfloat16
    for key in set(content) - {"rope_theta", "rope_scaling", "torch_dtype"}:
        assert getattr(theirs, key) == content[key], key
    np.testing.assert_allclose(
        LlamaRotaryEmbedding(theirs).inv_freq.numpy(),
        inverse_frequencies(config.rope, config.head_dim),
        rtol=5e-7,
    )
    assert LlamaForCausalLM(theirs).num_parameters() == config.num_parameters
    theirs.save_pretrained(tmp_path)  # now in the form of this version
    assert read_config(tmp_path) == config


@pytest.mark.parametrize("name", NAMED_CONFIGS)
def test_named_configs(name):
    config = NAMED_CONFIGS[name]
    family = family_of(config)
    assert family.read_config(family.write_config(config)) == config
    millions = {
        "llama2_7b": 6738,
        "llama2_13b": 13016,
        "llama2_70b": 68977,
        "llama2_115m": 117,
        "llama3_1b": 1236,
        "llama3_8b": 8030,
        "opt_125m": 125,
        "opt_350m": 331,
        "opt_1_3b": 1316,
        "opt_6_7b": 6658,
        "opt_13b": 12853,
        "opt_30b": 29975,
        "qwen2_500m": 494,
        "qwen2_7b": 7616,
        "qwen3_600m": 596,
        "qwen3_8b": 8191,
        "smollm2_135m": 135,
        "smollm2_10m": 10,
        "tiny_target": 0,
        "tiny_draft": 0,
    }
    assert round(config.num_parameters / 1e6) == millions[name]


@pytest.mark.parametrize("tied", [False, True])
def test_num_parameters_counts_the_tree(tied):
    import jax

    config = dataclasses.replace(
        config_from_hf(_VERSION_4), attention_bias=True, mlp_bias=True, tied_embeddings=tied
    )
    shapes = jax.eval_shape(LlamaModel(config).init_params, jax.random.key(0))
    assert config.num_parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert config.num_parameters_read == config.num_parameters - (0 if tied else 101 * 48)


_REFUSED = {
    "model_type": ({"model_type": "mistral"}, "model_type='mistral'"),
    "no model_type": ({"model_type": None}, "model_type=None"),
    "architecture": ({"architectures": ["LlamaForSequenceClassification"]}, "architectures="),
    "activation": ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
    "quantised": ({"quantization_config": {"bits": 4}}, "quantization_config="),
    "remote code": ({"auto_map": {"AutoModelForCausalLM": "x.Y"}}, "auto_map="),
    "not causal": ({"is_causal": False}, "is_causal=False"),
    "layer types": ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types="),
    "fused": ({"fusion_config": {"mlp": "x"}}, "fusion_config="),
    "a factor of nothing": ({"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "'factor'"),
    "all at once": (
        {"hidden_act": "gelu", "is_causal": False, "rope_scaling": {"type": "yarn"}, "auto_map": 1},
        "hidden_act='gelu'.*auto_map=1.*is_causal=False.*rope_type='yarn'",
    ),
    "sliding window": ({"sliding_window": 128}, "sliding_window=128"),
    "missing size": ({"intermediate_size": None}, "lacks the key 'intermediate_size'"),
    "string size": ({"hidden_size": "48"}, "hidden_size='48'"),
    "fraction": ({"num_hidden_layers": 1.5}, "num_hidden_layers=1.5"),
    "boolean size": ({"num_hidden_layers": True}, "num_hidden_layers=True"),
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers=0"),
    "string flag": ({"tie_word_embeddings": "false"}, "tie_word_embeddings='false'"),
    "kv heads": ({"num_key_value_heads": 4}, "num_key_value_heads=4"),
    "no kv heads": ({"num_key_value_heads": 0}, "num_key_value_heads=0"),
    "odd head": ({"head_dim": 7}, "head_dim=7"),
    "heads": ({"num_attention_heads": 5}, "hidden_size=48 .* set head_dim"),
    "eps": ({"rms_norm_eps": 0}, "rms_norm_eps=0"),
    "eos": ({"eos_token_id": ["</s>"]}, "eos_token_id="),
    "partial": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type='dynamic'"),
    "yarn": ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_type='yarn'"),
    "no factor": ({"rope_scaling": {"rope_type": "linear"}}, "lacks the key 'factor'"),
    "bad factor": ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor=0"),
    "llama3 lacks": ({"rope_scaling": {"rope_type": "llama3", "factor": 2}}, "low_freq_factor"),
    "llama3 order": ({"rope_scaling": _LLAMA3 | {"high_freq_factor": 1.0}}, "high_freq_factor=1"),
    "rope extra": ({"rope_scaling": _LLAMA3 | {"attention_factor": 2.0}}, "attention_factor"),
    "per layer": ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "full_attention"),
    "not a dict": ({"rope_scaling": [1, 2]}, "rope_scaling="),
    "theta": ({"rope_theta": -1.0}, "rope_theta=-1"),
    "two thetas": ({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0}}, "rope_theta twice"),
    "two ropes": (
        {"rope_scaling": _LLAMA3, "rope_parameters": {"rope_type": "linear", "factor": 2.0}},
        "rope_parameters and rope_scaling",
    ),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_refused(name):
    change, message = _REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        config_from_hf(_REQUIRED | change)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe\x00"])
def test_not_json(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json .* copy it again"):
        read_config(tmp_path)


def test_missing_files(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere is not a directory"):
        read_config(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        read_config(tmp_path)
