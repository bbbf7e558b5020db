"""Every key of transformers' configuration classes, changed: same logits, or refused by name."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import rsd_jax
from rsd_jax.models.checkpoint import read_config
from rsd_jax.models.families import FAMILIES
from tests.parity import ATOL, score

_TOKENS = np.random.default_rng(3).integers(0, 40, (2, 12))
_SIZES = dict(
    vocab_size=41,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=4,
    max_position_embeddings=32,
)
_LLAMA = _SIZES | dict(intermediate_size=24, num_key_value_heads=2, head_dim=4, rms_norm_eps=1e-3)
_QWEN = _LLAMA | dict(sliding_window=8, max_window_layers=0)
BASES = {
    "llama": _LLAMA,
    "mistral": _LLAMA | dict(sliding_window=32),
    "qwen2": {key: value for key, value in _QWEN.items() if key != "head_dim"},
    "qwen3": _QWEN,
    "opt": _SIZES | dict(ffn_dim=24, word_embed_proj_dim=16),
}
_ROPE = {"rope_theta": 10000.0, "rope_type": "default"}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
# Values of keys for which one more, or the opposite, is not a valid value; several per key.
_VALUES = {
    "transformers_version": ["4.57.1"],
    "return_dict": [],  # false makes transformers fail
    "architectures": [["LlamaForSequenceClassification"]],
    "model_type": ["gpt2"],
    "dtype": ["bfloat16"],
    "id2label": [{"0": "A"}],
    "label2id": [{"A": 0}],
    "problem_type": ["regression"],
    "hidden_size": [24],
    "num_attention_heads": [2],
    "num_key_value_heads": [4, 1],
    "head_dim": [6],
    "hidden_act": ["gelu", "relu"],
    "activation_function": ["gelu", "silu"],
    "rms_norm_eps": [0.3],
    "sliding_window": [5],
    "word_embed_proj_dim": [12],
    "attention_dropout": [0.5],
    "dropout": [0.9],
    "layerdrop": [0.9],
    "initializer_range": [0.5],
    "eos_token_id": [5, [3, 4]],
    "bos_token_id": [5],
    "pad_token_id": [5],
    "rope_parameters": [
        _ROPE | {"rope_theta": 10.0},
        _ROPE | {"rope_type": "linear", "factor": 3.0},
        _ROPE | _LLAMA3,
        _ROPE | {"rope_type": "dynamic", "factor": 3.0},
        _ROPE | {"rope_type": "yarn", "factor": 3.0},
        _ROPE | {"partial_rotary_factor": 0.5},
    ],
    "layer_types": [["sliding_attention"]],
}
# Keys that mean something only together.
_TOGETHER = {
    "num_hidden_layers": {"layer_types": ["full_attention"] * 2},
    "layer_types": {"use_sliding_window": True},
    "use_sliding_window": {"layer_types": None},
}


def _changed(key, value):
    """Valid values of a key, other than `value`."""
    if key in _VALUES:
        return _VALUES[key]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1]
    return [f"{value}x"]


def _theirs(directory):
    """Logits of a model of transformers with random weights, which are then saved."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float("norm" in name), 0.6, generator=generator)
        logits = model(torch.tensor(_TOKENS))[0].numpy()
    tensors = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return logits


def _compare(directory, raw, key):
    """Holds our logits against theirs, unless the key is refused by its name."""
    (directory / "config.json").write_text(json.dumps(raw))
    try:
        config = read_config(directory)
    except rsd_jax.ConfigError as error:
        inner = raw[key] if isinstance(raw[key], dict) else ()
        assert any(f"{name}=" in str(error) for name in (key, *inner)), (key, error)  # noqa: PT017
        return
    theirs = _theirs(directory)
    loaded = rsd_jax.load_model(directory, dtype="float32")
    size = min(_TOKENS.shape[1], config.max_positions)
    ours = np.asarray(score(loaded.model, loaded.params, _TOKENS[:, :size].astype(np.int32)))
    np.testing.assert_allclose(ours, theirs[:, :size], atol=ATOL, err_msg=f"{key}={raw[key]!r}")


@pytest.mark.parametrize("family", BASES)
def test_every_key_changed(family, tmp_path):
    import transformers

    base = transformers.AutoConfig.for_model(family, **BASES[family]).to_dict() | BASES[family]
    _compare(tmp_path, base, "model_type")
    for key, value in base.items():
        for other in _changed(key, value):
            assert other != value, key
            more = {k: v for k, v in _TOGETHER.get(key, {}).items() if k in base}
            _compare(tmp_path, base | more | {key: other}, key)


def test_every_family_is_here():
    assert set(BASES) == set(FAMILIES)
