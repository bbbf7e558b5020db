"""Mistral, Qwen2 and Qwen3 against transformers, every bias and norm drawn at random."""

import importlib
import inspect
import re

import jax
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.backend import CPU
from rsd_jax.models.checkpoint import read_config, save_model
from rsd_jax.models.families import FAMILIES, family_of
from rsd_jax.models.mistral import KEYS as MISTRAL_KEYS
from rsd_jax.models.qwen import QWEN2_KEYS, QWEN3_KEYS
from tests.parity import ATOL, hf_greedy, hf_logits, our_logits, random_params

_SIZES = dict(
    vocab_size=61,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-3,
)
_THETA = {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}
_WINDOW = {"use_sliding_window": True, "sliding_window": 48, "max_window_layers": 1}
_CASES = {
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral_head_dim": ("mistral", {"head_dim": 12, "tie_word_embeddings": True} | _THETA),
    "mistral_window": ("mistral", {"sliding_window": 48, "num_key_value_heads": 3}),
    "qwen2": ("qwen2", {}),
    "qwen2_tied": ("qwen2", {"tie_word_embeddings": True, "sliding_window": 8} | _THETA),
    "qwen2_window": ("qwen2", {"num_key_value_heads": None} | _WINDOW),
    "qwen3": ("qwen3", {}),
    "qwen3_head_dim": ("qwen3", {"head_dim": 12, "tie_word_embeddings": True} | _THETA),
    "qwen3_bias": ("qwen3", {"head_dim": 16, "attention_bias": True}),
    "qwen3_window": ("qwen3", {"head_dim": 8} | _WINDOW),
}
KEYS = {"mistral": MISTRAL_KEYS, "qwen2": QWEN2_KEYS, "qwen3": QWEN3_KEYS}
_TOKENS = np.random.default_rng(7).integers(0, _SIZES["vocab_size"], (2, 48))


@pytest.fixture(scope="module", params=_CASES)
def case(request, tmp_path_factory):
    """(family, directory written by transformers)."""
    import torch
    import transformers

    family, options = _CASES[request.param]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **_SIZES | options)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if "norm" in name else 0.0
            parameter.normal_(mean, 1.0 if "embed_tokens" in name else 0.2)
    directory = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(directory)
    return family, directory


def test_logits_are_those_of_transformers(case, tmp_path):
    family, directory = case
    theirs = hf_logits(directory, _TOKENS)
    np.testing.assert_allclose(our_logits(directory, _TOKENS), theirs, atol=ATOL)
    # Written and read again, by transformers too.
    loaded = rsd_jax.load_model(directory, dtype="float32")
    config = loaded.model.config
    assert config.model_type == family
    save_model(tmp_path, config, loaded.params, dtype="float32")
    assert read_config(tmp_path) == config
    np.testing.assert_allclose(our_logits(tmp_path, _TOKENS), theirs, atol=ATOL)
    np.testing.assert_allclose(hf_logits(tmp_path, _TOKENS), theirs, atol=ATOL)


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_sizes_and_axes_agree_with_the_network(family):
    config = FAMILIES[family].read_config(_raw(family))
    shapes = jax.eval_shape(
        FAMILIES[family].network(config, dtype="float32", backend=CPU).init_params,
        jax.random.key(0),
    )
    flat = {
        tuple(str(k.key) for k in path): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]
    }
    specs = {spec.path: spec.shape for spec in family_of(config).tensors(config).values()}
    assert flat == specs
    assert config.num_parameters == sum(int(np.prod(shape)) for shape in specs.values())
    for path, shape in specs.items():
        axes, units = family_of(config).axes(config, path)
        assert len(axes) == len(units) == len(shape)


def _raw(family, **others):
    return {"model_type": family} | _SIZES | others


def test_windows_limit_the_positions():
    def positions(family, **others):
        raw = _raw(family, max_position_embeddings=9000, **others)
        return FAMILIES[family].read_config(raw).max_positions

    assert positions("mistral") == 4096  # transformers' default
    assert positions("mistral", sliding_window=None) == 9000
    assert positions("mistral", sliding_window=100) == 100
    for family in ("qwen2", "qwen3"):
        assert positions(family, use_sliding_window=False, sliding_window=100) == 9000
        assert positions(family, use_sliding_window=True, sliding_window=100) == 100
        assert positions(family, use_sliding_window=True) == 4096
        kinds = ["full_attention", "sliding_attention"]
        assert positions(family, sliding_window=100, layer_types=kinds) == 100
        with pytest.raises(rsd_jax.ConfigError, match="layer_types"):
            positions(family, layer_types=["full_attention", "linear_attention"])


def test_absent_keys_take_the_defaults_of_the_familys_class():
    import transformers

    for family in ("mistral", "qwen2", "qwen3"):
        raw = {key: value for key, value in _raw(family).items()}
        for key in ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps"):
            del raw[key]
        raw |= {"hidden_size": 256, "num_attention_heads": 32}
        ours = FAMILIES[family].read_config(raw | {"sliding_window": None})
        theirs = transformers.AutoConfig.for_model(**raw)
        assert ours.num_kv_heads == theirs.num_key_value_heads
        assert ours.max_positions == theirs.max_position_embeddings
        assert ours.norm_eps == theirs.rms_norm_eps
        assert ours.head_dim == (getattr(theirs, "head_dim", None) or 8)
        assert (ours.bos_id, ours.eos_ids) == (
            theirs.bos_token_id,
            () if theirs.eos_token_id is None else (theirs.eos_token_id,),
        )
        assert ours.rope.theta == theirs.rope_parameters["rope_theta"]


def test_biases_that_a_family_does_not_read_get_a_warning():
    for family, key in (
        ("mistral", "attention_bias"),
        ("qwen2", "attention_bias"),
        ("qwen3", "mlp_bias"),
    ):
        with pytest.warns(
            UserWarning, match=f"config.json sets {key}, which transformers does not"
        ):
            config = FAMILIES[family].read_config(_raw(family, **{key: True}))
        assert config == FAMILIES[family].read_config(_raw(family))


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_speculation_is_greedy_decoding_of_transformers(family, tmp_path):
    """With an independent draft of the same family; batch of unequal prompts."""
    config = FAMILIES[family].read_config(_raw(family, head_dim=8))
    for seed, name in enumerate(("target", "draft")):
        network = FAMILIES[family].network(config, dtype="float32", backend=CPU)
        save_model(tmp_path / name, config, random_params(network, seed=seed), dtype="float32")
    target, draft = (
        rsd_jax.load_model(tmp_path / name, dtype="float32") for name in ("target", "draft")
    )
    prompts = [[3, 1, 4], [1, 5, 9, 2, 6]]
    method = rsd_jax.build_method("rsd_s", width=2, length=2)
    expected = hf_greedy(tmp_path / "target", prompts, 12)
    for mesh in (None, jax.make_mesh((2, 2), ("data", "model"))):
        target, draft = (
            rsd_jax.load_model(tmp_path / name, dtype="float32", mesh=mesh)
            for name in ("target", "draft")
        )
        result = rsd_jax.generate(
            method, target, draft, prompts, max_new_tokens=12, temperature=0.0, eos_id=None
        )
        assert result.tokens == expected


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_every_key_of_transformers_is_in_a_list(family):
    """Those that its class declares, and those that its modelling code mentions."""
    import transformers

    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    known = KEYS[family].read | KEYS[family].inert | set(KEYS[family].plain)
    mentioned = set(re.findall(r"config\.(\w+)", inspect.getsource(module)))
    dump = transformers.AutoConfig.for_model(family, **_SIZES).to_dict()
    assert {*dump, *mentioned} - {"get_text_config"} <= known
    assert FAMILIES[family].read_config(dump).max_positions == _SIZES["max_position_embeddings"]
