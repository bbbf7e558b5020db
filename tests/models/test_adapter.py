"""Low-rank adapters: added as by PEFT, and refused if they are not supported."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import rsd_jax
from rsd_jax.cli import pairs
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.models.adapter import load_adapter, save_adapter
from rsd_jax.models.adapter_config import CONFIG, PICKLED, WEIGHTS
from rsd_jax.models.checkpoint import save_model
from rsd_jax.models.families import FAMILIES
from rsd_jax.models.llama_params import TABLE
from rsd_jax.models.loading import build_model
from rsd_jax.models.weight_files import HEAD
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import parity

_RANK = 3
_UP = ("layers_0", "mlp", "up_proj", "kernel")
_KEY = ("layers_1", "self_attn", "k_proj", "kernel")


def _leaf(params, path):
    for name in path:
        params = params[name]
    return np.asarray(params)


@pytest.fixture(scope="module")
def params():
    return tiny_params(0)


@pytest.fixture(scope="module")
def factors(params):
    """Factors that bfloat16 represents exactly."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.integers(-4, 5, shape).astype(np.float32) / 8

    shapes = {path: _leaf(params, path).shape for path in (_UP, _KEY)}
    return {path: (draw(i, _RANK), draw(_RANK, o)) for path, (i, o) in shapes.items()}


@pytest.fixture
def saved(factors, params, tmp_path):
    """A model's directory and an adapter's."""
    save_model(tmp_path / "model", TINY_CONFIG, params, dtype="float32")
    save_adapter(tmp_path / "adapter", TINY_CONFIG, factors, base="tiny")
    return tmp_path / "model", tmp_path / "adapter"


def _change(directory, **values):
    path = directory / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_products_of_the_factors_are_added(saved, factors, params):
    model, adapter = saved
    plain = rsd_jax.load_model(model).params
    for scale, config in ((1.0, {}), (2.0, {"lora_alpha": 6}), (3**0.5, {"use_rslora": True})):
        _change(adapter, lora_alpha=_RANK)
        _change(adapter, **config)
        loaded = rsd_jax.load_model(model, adapter=adapter).params
        for path in (_UP, _KEY):
            a, b = factors[path]
            expected = _leaf(params, path) + scale * (a @ b)
            np.testing.assert_allclose(_leaf(loaded, path), expected, rtol=1e-6, atol=1e-6)
        other = ("layers_0", "mlp", "down_proj", "kernel")
        np.testing.assert_array_equal(_leaf(loaded, other), _leaf(plain, other))
    # In bfloat16 the sum is rounded once.
    _change(adapter, use_rslora=False)
    a, b = factors[_UP]
    types = dict(dtype="bfloat16", compute_dtype="bfloat16")
    half = _leaf(rsd_jax.load_model(model, adapter=adapter, **types).params, _UP)
    rounded = _leaf(rsd_jax.load_model(model, **types).params, _UP)
    expected = (rounded.astype(np.float32) + a @ b).astype(half.dtype)
    np.testing.assert_array_equal(half, expected)


def test_patterns_give_ranks_and_scales_as_in_peft(saved, factors, params):
    """Of the patterns that match a name, or its end behind a dot, the first one counts."""
    model, adapter = saved
    tensors = load_file(adapter / WEIGHTS)
    narrow = {_UP: 2, _KEY: _RANK}
    for key, value in tensors.items():
        if "up_proj" in key:
            tensors[key] = np.ascontiguousarray(value[:2] if "lora_A" in key else value[:, :2])
    save_file(tensors, adapter / WEIGHTS)
    _change(
        adapter,
        r=7,
        lora_alpha=_RANK,
        target_modules=["k_proj", "up_proj", "query_key_value"],
        rank_pattern={r"layers\.\d+\.mlp\.up_proj": 2, "up_proj": 5, "k_proj": _RANK},
        alpha_pattern={"proj": 100, "^model.layers.1.self_attn.k_proj": 6},
    )
    loaded = rsd_jax.load_model(model, adapter=adapter).params
    for path, scale in ((_UP, _RANK / 2), (_KEY, 2.0)):
        a, b = (factors[path][0][:, : narrow[path]], factors[path][1][: narrow[path]])
        expected = _leaf(params, path) + scale * (a @ b)
        np.testing.assert_allclose(_leaf(loaded, path), expected, rtol=1e-6, atol=1e-6)


def test_tables_that_equal_the_models_load(saved, params):
    model, adapter = saved
    plain = load_file(model / "model.safetensors")
    tables = {f"base_model.model.{name}": plain[name] for name in (TABLE, HEAD)}
    tensors = load_file(adapter / WEIGHTS)
    save_file(tensors | tables, adapter / WEIGHTS)
    _change(adapter, modules_to_save=["lm_head", "model.embed_tokens"])
    for dtype in ("float32", "bfloat16"):
        types = dict(dtype=dtype, compute_dtype=dtype)
        loaded = rsd_jax.load_model(model, adapter=adapter, **types).params
        np.testing.assert_array_equal(
            _leaf(loaded, ("lm_head",)), _leaf(params, ("lm_head",)).astype(dtype)
        )
    for name, shown in ((TABLE, "embed_tokens/embedding"), (HEAD, "lm_head")):
        other = {key: value + (key.endswith(name)) for key, value in tables.items()}
        save_file(tensors | other, adapter / WEIGHTS)
        with pytest.raises(rsd_jax.ConfigError, match=f"replaces.*{shown}.*merge_and_unload"):
            rsd_jax.load_model(model, adapter=adapter)
        grown = {key: np.pad(value, ((0, 2), (0, 0))) for key, value in tables.items()}
        save_file(tensors | grown, adapter / WEIGHTS)
        with pytest.raises(rsd_jax.ConfigError, match=r"shape.*merge_and_unload"):
            load_adapter(adapter, TINY_CONFIG)


def test_a_tied_model_has_one_table(factors, tmp_path):
    config = dataclasses.replace(TINY_CONFIG, tied_embeddings=True)
    save_model(tmp_path / "model", config, tiny_params(0, config), dtype="float32")
    save_adapter(tmp_path / "adapter", config, factors, base="tied")
    table = load_file(tmp_path / "model/model.safetensors")[TABLE]
    tensors = load_file(tmp_path / "adapter" / WEIGHTS)
    save_file(tensors | {f"base_model.model.{HEAD}": table}, tmp_path / "adapter" / WEIGHTS)
    rsd_jax.load_model(tmp_path / "model", adapter=tmp_path / "adapter")
    save_file(tensors | {f"base_model.model.{HEAD}": -table}, tmp_path / "adapter" / WEIGHTS)
    with pytest.raises(rsd_jax.ConfigError, match="replaces"):
        rsd_jax.load_model(tmp_path / "model", adapter=tmp_path / "adapter")


def test_a_pair_of_a_configuration_has_it(saved, factors, params, monkeypatch):
    monkeypatch.setattr(pairs, "_tokenizer", lambda directory: None)
    source = PairSource(target=str(saved[0]), adapter=str(saved[1]))
    a, b = factors[_UP]
    target = pairs.load_pair(source).target
    np.testing.assert_allclose(_leaf(target.params, _UP), _leaf(params, _UP) + a @ b, atol=1e-6)


def test_transformers_says_the_same(saved):
    """The logits equal those of transformers with the product added by PyTorch."""
    import torch
    import transformers

    model, adapter = saved
    peer = transformers.LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    with safe_open(adapter / WEIGHTS, framework="pt") as file:
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    for key in [key for key in tensors if "lora_A" in key]:
        name = key.removeprefix("base_model.model.").replace(".lora_A", "")
        with torch.no_grad():
            peer.get_parameter(name).add_(tensors[key.replace("lora_A", "lora_B")] @ tensors[key])
    tokens = np.arange(1, 9)[None]
    expected = peer(torch.tensor(tokens)).logits.detach().numpy()
    adapted = rsd_jax.load_model(model, adapter=adapter)
    ours = adapted.model.score(adapted.params, tokens)
    plain = rsd_jax.load_model(model)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert np.abs(plain.model.score(plain.params, tokens) - expected).max() > 1e-2


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"peft_type": "IA3"}, rsd_jax.ConfigError, "peft_type='IA3'"),
        ({"use_dora": True}, rsd_jax.ConfigError, "use_dora=True is not supported"),
        ({"bias": "all"}, rsd_jax.ConfigError, "bias='all'"),
        ({"init_lora_weights": "pissa"}, rsd_jax.ConfigError, "init_lora_weights='pissa'"),
        ({"target_modules": ["q_proj", "up_proj"]}, rsd_jax.CheckpointError, "lacks.*q_proj"),
        ({"r": "3"}, rsd_jax.ConfigError, "up_proj has r='3'"),
        ({"lora_alpha": None}, rsd_jax.ConfigError, "lora_alpha=None; both must be numbers"),
        ({"lora_bias": True}, rsd_jax.ConfigError, "lora_bias=True is not supported; merge the"),
        ({"modules_to_save": ["norm"]}, rsd_jax.ConfigError, r"modules_to_save=\['norm'\]"),
        ({"rank_pattern": {"(": 2}}, rsd_jax.ConfigError, r"rank_pattern holds '\(', no regular"),
        ({"rank_pattern": [2]}, rsd_jax.ConfigError, r"rank_pattern=\[2\] is not an object"),
        ({"r": 4}, rsd_jax.CheckpointError, r"rank 4 and a matrix"),
    ],
)
def test_other_adapters_are_refused(saved, values, error, message):
    model, adapter = saved
    _change(adapter, **values)
    with pytest.raises(error, match=message):
        rsd_jax.load_model(model, adapter=adapter)


def test_missing_and_foreign_files(saved, factors, tmp_path):
    model, adapter = saved
    with pytest.raises(rsd_jax.CheckpointError, match="is not a directory"):
        rsd_jax.load_model(model, adapter=tmp_path / "none")
    (adapter / WEIGHTS).write_bytes(b"x" * 40)
    with pytest.raises(rsd_jax.CheckpointError, match="truncated or not a safetensors file"):
        load_adapter(adapter, TINY_CONFIG)
    half = {path: (a, b) for path, (a, b) in factors.items() if path == _UP}
    save_adapter(adapter, TINY_CONFIG, half, base="tiny")
    tensors = load_file(adapter / WEIGHTS)
    save_file({key: value for key, value in tensors.items() if "lora_A" in key}, adapter / WEIGHTS)
    with pytest.raises(rsd_jax.CheckpointError, match=r"lacks .*up_proj\.lora_B"):
        load_adapter(adapter, TINY_CONFIG)
    a, b = factors[_KEY]
    mixed = half | {_KEY: (a[:, :2], b[:2])}
    with pytest.raises(rsd_jax.ConfigError, match=r"one rank; got \[2, 3\]"):
        save_adapter(adapter, TINY_CONFIG, mixed, base="tiny")
    deeper = {("layers_9", *path[1:]): value for path, value in factors.items()}
    config = dataclasses.replace(TINY_CONFIG, num_layers=10)
    save_adapter(adapter, config, deeper, base="tiny")
    with pytest.raises(rsd_jax.CheckpointError, match=r"layers.9.*does not have"):
        load_adapter(adapter, TINY_CONFIG)
    save_file({"base_model.model.x.lora_embedding_A": np.ones(2)}, adapter / WEIGHTS)
    with pytest.raises(rsd_jax.ConfigError, match=r"adapts an embedding .*merge_and_unload"):
        load_adapter(adapter, TINY_CONFIG)
    (adapter / WEIGHTS).rename(adapter / PICKLED)
    with pytest.raises(rsd_jax.CheckpointError, match=r"holds only adapter_model\.bin.*convert"):
        load_adapter(adapter, TINY_CONFIG)
    (adapter / CONFIG).unlink()
    (adapter / PICKLED).rename(adapter / WEIGHTS)
    with pytest.raises(rsd_jax.CheckpointError, match=f"{CONFIG} is missing"):
        load_adapter(adapter, TINY_CONFIG)


_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GATED = (*_ATTENTION, "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_SHAPE = dict(vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
_FAMILIES = {
    "mistral": (_GATED, "model.layers", dict(intermediate_size=24, num_key_value_heads=1)),
    "qwen2": (_GATED, "model.layers", dict(intermediate_size=24, num_key_value_heads=1)),
    "qwen3": (_GATED, "model.layers", dict(intermediate_size=24, num_key_value_heads=1)),
    "opt": (
        (*_ATTENTION, "self_attn.out_proj", "fc1", "fc2"),
        "model.decoder.layers",
        dict(ffn_dim=24, word_embed_proj_dim=12),
    ),
}


@pytest.mark.parametrize("family", _FAMILIES)
def test_a_family_s_adapter_is_that_of_transformers_merged(family, tmp_path):
    """Every matrix that PEFT adapts in the layers, under PEFT's names; the sum is theirs."""
    modules, layers, sizes = _FAMILIES[family]
    config = FAMILIES[family].read_config({"model_type": family} | _SHAPE | sizes)
    model, merged, adapter = (tmp_path / name for name in ("model", "merged", "adapter"))
    params = parity.random_params(build_model(config, dtype="float32"))
    save_model(model, config, params, dtype="float32")
    weights, rng, factors = load_file(model / "model.safetensors"), np.random.default_rng(1), {}
    for name in [f"{layers}.{i}.{module}" for i in range(2) for module in modules]:
        out, inner = weights[f"{name}.weight"].shape
        a, b = rng.normal(size=(_RANK, inner)), rng.normal(size=(out, _RANK)) / 9
        weights[f"{name}.weight"] += (2.0 * (b @ a)).astype(np.float32)
        for letter, factor in (("A", a), ("B", b)):
            key = f"base_model.model.{name}.lora_{letter}.weight"
            factors[key] = factor.astype(np.float32)
    merged.mkdir()
    shutil.copy(model / "config.json", merged)
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
    adapter.mkdir()
    save_file(factors, adapter / WEIGHTS)
    targets = sorted({module.rpartition(".")[2] for module in modules})
    content = {"peft_type": "LORA", "r": _RANK, "lora_alpha": 2 * _RANK, "target_modules": targets}
    (adapter / CONFIG).write_text(json.dumps(content))
    tokens = np.arange(24, dtype=np.int32).reshape(2, 12)
    loaded = rsd_jax.load_model(model, adapter=adapter)
    ours = np.asarray(parity.score(loaded.model, loaded.params, tokens))
    np.testing.assert_allclose(ours, parity.hf_logits(merged, tokens), atol=parity.ATOL)
    assert np.abs(ours - parity.our_logits(model, tokens)).max() > 0.1
    # What we write has the same names.
    paths = {spec.path: spec.shape for spec in FAMILIES[family].tensors(config).values()}
    own = {path: shape for path, shape in paths.items() if path[-1] == "kernel" and len(path) > 2}
    ones = {path: (np.ones((i, 1)), np.ones((1, o))) for path, (i, o) in own.items()}
    save_adapter(tmp_path / "written", config, ones, base="tiny")
    assert set(load_file(tmp_path / "written" / WEIGHTS)) == set(factors)
    written = json.loads((tmp_path / "written" / CONFIG).read_text())
    assert written["target_modules"] == targets
