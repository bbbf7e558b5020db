"""Every key of config.json, perturbed: we refuse the key, or compute what transformers computes."""

import inspect
import json
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.models.checkpoint import load_params, read_config, save_model
from rsd_jax.models.config import LlamaConfig, RopeConfig
from rsd_jax.models.hf_config import LLAMA_KEYS, config_from_hf, config_to_hf
from rsd_jax.models.llama import LlamaModel
from tests import parity

_CONFIG = LlamaConfig(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    max_positions=64,
    eos_ids=(2,),
)
_TOKENS = np.arange(24, dtype=np.int32).reshape(2, 12)
# Of a base class in version 4; a full `to_dict()` of version 4 has them in every file.
_VERSION_4 = {
    "torchscript": False,
    "use_bfloat16": False,
    "tf_legacy_loss": False,
    "pruned_heads": {},
    "is_encoder_decoder": False,
    "is_decoder": False,
    "cross_attention_hidden_size": None,
    "add_cross_attention": False,
    "tie_encoder_decoder": False,
    "finetuning_task": None,
    "task_specific_params": None,
    "min_length": 0,
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "typical_p": 1.0,
    "length_penalty": 1.0,
    "num_return_sequences": 1,
    "suppress_tokens": None,
    "_name_or_path": "",
    "_attn_implementation_autoset": True,
}
# Keys that public files have, and that no class of transformers declares.
_FOUND_IN_FILES = {
    "_model_name_or_path": "x/y",
    "_commit_hash": "abc",
    "attn_implementation": "eager",
    "use_sdpa": True,
    "max_length": 20,
    "temperature": 0.6,
}


def _dump() -> dict:
    """The full `to_dict()` of this version for the tiny model."""
    import transformers

    return transformers.LlamaConfig(**config_to_hf(_CONFIG)).to_dict()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    save_model(directory, _CONFIG, parity.random_params(LlamaModel(_CONFIG)), dtype="float32")
    return directory


def _perturbed(value):
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + 1
    return {"x": 1} if isinstance(value, dict) else f"{value}x"


def _logits(directory, config) -> np.ndarray:
    params = load_params(directory, config, dtype="float32")
    return np.asarray(_score(LlamaModel(config), params, jnp.asarray(_TOKENS)))


_score = jax.jit(lambda model, params, tokens: model.score(params, tokens), static_argnums=0)


def test_every_key_of_transformers_is_in_a_list():
    """Those that its class declares, and those that its modelling code mentions."""
    from transformers.models.llama import modeling_llama

    known = LLAMA_KEYS.read | LLAMA_KEYS.inert | set(LLAMA_KEYS.plain)
    mentioned = set(re.findall(r"config\.(\w+)", inspect.getsource(modeling_llama)))
    methods = {"get_text_config"}
    assert {*_dump(), *mentioned, *_VERSION_4} - methods <= known
    assert not LLAMA_KEYS.read & LLAMA_KEYS.inert
    assert not (LLAMA_KEYS.read | LLAMA_KEYS.inert) & set(LLAMA_KEYS.plain)


def test_a_full_dump_is_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = config_from_hf(_dump() | _VERSION_4 | _FOUND_IN_FILES)
    assert config == config_from_hf(config_to_hf(_CONFIG))


def test_what_changes_nothing_in_transformers_changes_nothing_here(saved, tmp_path):
    """Keys that are not read: alone and perturbed, each is refused or changes no logit there."""
    plain = json.loads((saved / "config.json").read_text())
    expected = _logits(saved, read_config(saved))
    np.testing.assert_allclose(expected, parity.hf_logits(saved, _TOKENS), atol=parity.ATOL)
    values = _dump() | _VERSION_4 | _FOUND_IN_FILES
    unread = [key for key in values if key not in LLAMA_KEYS.read | set(LLAMA_KEYS.plain)]
    # Types that transformers checks when it reads the file.
    skipped = {"id2label", "label2id", "dtype", "torch_dtype", "problem_type", "num_labels"}
    skipped |= {"transformers_version", "attn_implementation", "_attn_implementation"}
    changed = {key: _perturbed(values[key]) for key in unread if key not in skipped}
    changed |= {"attention_dropout": 0.5, "initializer_range": 0.5, "pruned_heads": {}}
    assert len(changed) > 20
    (tmp_path / "model.safetensors").symlink_to(saved / "model.safetensors")
    failed = []
    for key, value in changed.items():
        (tmp_path / "config.json").write_text(json.dumps(plain | {key: value}))
        try:
            theirs = parity.hf_logits(tmp_path, _TOKENS)
        except Exception:  # a value that transformers fails on
            failed.append(key)
            continue
        ours = _logits(tmp_path, read_config(tmp_path))
        np.testing.assert_allclose(ours, theirs, atol=parity.ATOL, err_msg=key)
    assert len(failed) < 8, failed


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rms_norm_eps", 0.1),
        ("rope_theta", 100.0),
        ("rope_scaling", {"rope_type": "linear", "factor": 4.0}),
        ("rope_scaling", {"rope_type": "default", "factor": 1.0}),
        ("hidden_act", "swish"),
        ("pretraining_tp", 2),
    ],
)
def test_what_is_read_has_the_effect_that_it_has_in_transformers(saved, tmp_path, key, value):
    content = json.loads((saved / "config.json").read_text()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "model.safetensors").symlink_to(saved / "model.safetensors")
    ours = _logits(tmp_path, read_config(tmp_path))
    np.testing.assert_allclose(ours, parity.hf_logits(tmp_path, _TOKENS), atol=parity.ATOL)


def test_unknown_keys_get_one_warning():
    raw = config_to_hf(_CONFIG) | {"logit_scale": 0.5, "my_note": "x", "off": False}
    with pytest.warns(UserWarning, match="config.json sets logit_scale, my_note, which") as seen:
        config = config_from_hf(raw)
    assert len(seen) == 1
    assert config == config_from_hf(config_to_hf(_CONFIG))
    assert config.rope == RopeConfig()
