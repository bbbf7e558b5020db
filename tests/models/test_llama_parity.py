"""Our Llama against Hugging Face's, and in pieces against whole sequences.

Weights are drawn wide enough that logits are of order 1 to 10 and attention is far from uniform:
with the initialisation of transformers (0.02, biases 0) most defects would hide below the
tolerance.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.backend import CPU, PrefixReads
from rsd_jax.models.checkpoint import load_params, read_config, save_model
from rsd_jax.models.config import LlamaConfig, RopeConfig
from rsd_jax.models.llama import LlamaModel
from tests.parity import ATOL, hf_greedy, hf_logits, our_logits, random_params, score

_SIZES = dict(
    vocab_size=101,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=6,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
)
_LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
# Over an original context of 32, the wavelengths of an 8-dimensional head fall into all three
# bands: kept, interpolated and stretched.
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
    "rope_theta": 500.0,
}
_CASES = {
    "mha": {},
    "gqa": {"num_key_value_heads": 2},
    "tied": {"tie_word_embeddings": True},
    "attention_bias": {"attention_bias": True, "num_key_value_heads": 3},
    "mlp_bias": {"mlp_bias": True},
    "head_dim": {"head_dim": 20, "num_key_value_heads": 2},
    "linear": {"rope_parameters": _LINEAR},
    "llama3": {"rope_parameters": _LLAMA3},
    "theta_eps": {
        "rope_parameters": {"rope_theta": 37.0, "rope_type": "default"},
        "rms_norm_eps": 0.3,
    },
    "all": {
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
        "attention_bias": True,
        "mlp_bias": True,
        "head_dim": 12,
        "rope_parameters": _LLAMA3,
        "rms_norm_eps": 1e-2,
    },
}
_TOKENS = np.random.default_rng(7).integers(0, _SIZES["vocab_size"], (2, 48))


@pytest.fixture(scope="module", params=_CASES)
def case(request, tmp_path_factory):
    """(name, directory written by transformers, its logits for `_TOKENS`)."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**_SIZES | _CASES[request.param])
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if "norm" in name else 0.0
            scale = 1.0 if "embed" in name else 0.2
            parameter.normal_(mean, scale)
    directory = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(directory)
    return request.param, directory, hf_logits(directory, _TOKENS)


def test_logits_equal_transformers(case):
    _, directory, expected = case
    assert np.abs(expected).max() > 3
    np.testing.assert_allclose(our_logits(directory, _TOKENS), expected, atol=ATOL, rtol=0)


def test_our_save_is_read_by_transformers(case, tmp_path):
    _, directory, expected = case
    config = read_config(directory)
    params = load_params(directory, config, dtype="float32")
    save_model(tmp_path, config, params, dtype="float32", max_shard_bytes=40_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert read_config(tmp_path) == config
    np.testing.assert_array_equal(hf_logits(tmp_path, _TOKENS), expected)


@pytest.mark.parametrize(
    "case", ["attention_bias", "mlp_bias", "linear", "llama3", "theta_eps", "all"], indirect=True
)
def test_case_would_see_the_feature_missing(case):
    """Without the feature the logits change by far more than ATOL."""
    _, directory, expected = case
    config = read_config(directory)
    params = load_params(directory, config, dtype="float32")
    without = {}
    if config.rope != RopeConfig():
        without["rope"] = dataclasses.replace(config, rope=RopeConfig()), params
    if config.norm_eps > 1e-4:
        without["norm_eps"] = dataclasses.replace(config, norm_eps=1e-5), params
    if config.attention_bias or config.mlp_bias:
        zeroed = jax.tree_util.tree_map_with_path(
            lambda path, x: jnp.zeros_like(x) if path[-1].key == "bias" else x, params
        )
        without["biases"] = config, zeroed
    assert without
    for feature, (changed, weights) in without.items():
        logits = score(LlamaModel(changed), weights, _TOKENS.astype(np.int32))
        assert np.abs(logits - expected).max() > 0.1, feature


@pytest.mark.parametrize("case", ["gqa"], indirect=True)
def test_greedy_decoding_equals_transformers(case):
    """transformers' cached `generate` against argmax over whole sequences, and the stop."""
    _, directory, _ = case
    config = read_config(directory)
    model, params = LlamaModel(config), load_params(directory, config, dtype="float32")
    prompts, new = [[5], [1, 2, 3, 4, 5, 6, 7], [90, 2]], 20
    ours = []
    for prompt in prompts:
        row = list(prompt)
        while len(row) < len(prompt) + new:
            padded = np.pad(np.array([row], np.int32), [(0, 0), (0, 48 - len(row))])
            row.append(int(score(model, params, padded)[0, len(row) - 1].argmax()))
        ours.append(row[len(prompt) :])
    assert hf_greedy(directory, prompts, new) == ours
    eos = ours[0][4]
    assert hf_greedy(directory, prompts[:1], new, eos) == [ours[0][: ours[0].index(eos) + 1]]


@pytest.mark.parametrize("case", ["gqa", "llama3", "all"], indirect=True)
def test_bfloat16(case, tmp_path):
    """Stored bfloat16 survives exactly; the logits stay within 10 % of their range.

    The bound is loose on purpose (measured: at most 4 %); the rounded weights in float32
    arithmetic must still be the same function as in transformers.
    """
    _, directory, expected = case
    config = read_config(directory)
    half = load_params(directory, config, dtype="bfloat16")
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(half))
    save_model(tmp_path, config, half)
    again = load_params(tmp_path, config, dtype="bfloat16")
    jax.tree.map(np.testing.assert_array_equal, again, half)
    rounded = hf_logits(tmp_path, _TOKENS)
    np.testing.assert_allclose(our_logits(tmp_path, _TOKENS), rounded, atol=ATOL, rtol=0)
    logits = our_logits(tmp_path, _TOKENS, dtype="bfloat16")
    assert logits.dtype == np.float32
    assert (logits != logits.astype(jnp.bfloat16)).mean() > 0.9, "summed in float32, never rounded"
    assert np.isfinite(logits).all()
    assert np.abs(logits - rounded).max() < 0.1 * np.abs(expected).max()


# --- the same model in pieces -------------------------------------------------------------------

_CONFIG = LlamaConfig(
    vocab_size=53,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_positions=128,
)
_LENGTHS = np.array([0, 3, 20, 33], np.int32)  # committed tokens of each row
_CAPACITY, _CHUNK = 44, 16  # three chunks, the last one starting early
_IN_CHUNKS = dataclasses.replace(CPU, reads=PrefixReads(chunk=_CHUNK, whole_up_to=0))
_FED = 8  # tokens of one prefill step
_PARENTS = (-1, 0, 0, 1, 1, 2)  # of a tree with levels of 1, 2 and 3 nodes
_LEVELS = (slice(0, 3), slice(3, 6))  # nodes of each forward pass
_PATH = (0, 2, 5)
_COUNTS = np.array([3, 2, 3, 1], np.int32)  # committed nodes of `_PATH`, per row


def _path(node: int) -> list[int]:
    return [] if node < 0 else [*_path(_PARENTS[node]), node]


def _model_and_params(dtype: str):
    model = LlamaModel(_CONFIG, dtype=dtype, backend=_IN_CHUNKS)
    return model, random_params(model, dtype)


def _poison(buffers):
    """Fills unwritten positions with large values, so that attention to them is detected."""
    return tuple(np.full(buffer.shape, 1e3, buffer.dtype) for buffer in buffers)


@functools.partial(jax.jit, static_argnums=0, static_argnames="slot")
def _forward(model, params, tokens, positions, cache, scratch, mask, *, slot):
    return model.forward(params, tokens, positions, cache, scratch, slot=slot, mask=mask)


_commit = jax.jit(LlamaModel.commit, static_argnums=0)


def _prefill(model, params, tokens):
    """Feeds the first `_LENGTHS` tokens of each row, at most `_FED` at once."""
    cache, scratch = model.init_cache(len(tokens), _CAPACITY), model.init_scratch(len(tokens), 9)
    cache = cache.replace(keys=_poison(cache.keys), values=_poison(cache.values))
    scratch = scratch.replace(keys=_poison(scratch.keys), values=_poison(scratch.values))
    slots = jnp.broadcast_to(jnp.arange(_FED, dtype=jnp.int32)[None], (len(tokens), _FED))
    mask = jnp.tril(jnp.ones((1, _FED, 9), bool))
    for _ in range(-(-int(_LENGTHS.max()) // _FED)):
        start = np.asarray(cache.length)
        positions = start[:, None] + np.arange(_FED, dtype=np.int32)[None]
        fed = np.take_along_axis(tokens, np.minimum(positions, tokens.shape[1] - 1), axis=1)
        _, scratch = _forward(model, params, fed, positions, cache, scratch, mask, slot=0)
        count = np.clip(_LENGTHS - start, 0, _FED)
        cache = _commit(model, cache, scratch, slots, start, count)
    np.testing.assert_array_equal(cache.length, _LENGTHS)
    return cache, scratch


def _score_tree(model, params, cache, scratch, nodes):
    """Logits [B, N, V] of tree tokens [B, N], level by level into a scratch that holds old KV."""
    ancestors = np.zeros((len(_PARENTS), 9), bool)
    for node in range(len(_PARENTS)):
        ancestors[node, _path(node)] = True
    depth = np.array([len(_path(node)) - 1 for node in range(len(_PARENTS))], np.int32)
    logits = []
    for level in _LEVELS:
        positions = np.asarray(cache.length)[:, None] + depth[None, level]
        out, scratch = _forward(
            model,
            params,
            nodes[:, level],
            positions,
            cache,
            scratch,
            ancestors[None, level],
            slot=level.start,
        )
        logits.append(out)
    return np.concatenate(logits, axis=1), scratch


def _check_pieces(dtype: str, atol: float) -> None:
    rng = np.random.default_rng(1)
    model, params = _model_and_params(dtype)
    tokens = rng.integers(0, _CONFIG.vocab_size, (len(_LENGTHS), 48)).astype(np.int32)
    nodes = rng.integers(0, _CONFIG.vocab_size, (len(_LENGTHS), len(_PARENTS))).astype(np.int32)
    cache, scratch = _prefill(model, params, tokens)

    logits, scratch = _score_tree(model, params, cache, scratch, nodes)
    assert logits.dtype == dtype
    assert np.abs(logits).max() > 3
    for row, length in enumerate(_LENGTHS):
        for node in range(len(_PARENTS)):
            whole = np.concatenate([tokens[row, :length], nodes[row, _path(node)]])[None]
            expected = score(model, params, np.pad(whole, [(0, 0), (0, 48 - whole.shape[1])]))
            expected = expected[0, whole.shape[1] - 1]
            np.testing.assert_allclose(logits[row, node], expected, atol=atol, rtol=0)

    # Another tree, after part of a path was committed.
    slots = np.tile(np.array(_PATH, np.int32), (len(_LENGTHS), 1))
    cache = _commit(model, cache, scratch, slots, cache.length, _COUNTS)
    np.testing.assert_array_equal(cache.length, _LENGTHS + _COUNTS)
    logits, _ = _score_tree(model, params, cache, scratch, nodes[:, ::-1])
    for row, (length, count) in enumerate(zip(_LENGTHS, _COUNTS, strict=True)):
        prefix = [*tokens[row, :length], *nodes[row, list(_PATH[:count])]]
        whole = np.array([[*prefix, *nodes[row, ::-1][_path(5)]]], np.int32)
        expected = score(model, params, np.pad(whole, [(0, 0), (0, 48 - whole.shape[1])]))
        expected = expected[0, whole.shape[1] - 1]
        np.testing.assert_allclose(logits[row, 5], expected, atol=atol, rtol=0)


def test_pieces_equal_whole_sequences():
    _check_pieces("float32", ATOL)


def test_float64_is_float64_throughout():
    """Float64 runs, which decide ties, never round to float32: pieces and whole agree to 1e-11."""
    with jax.enable_x64(True):
        _check_pieces("float64", 1e-11)
        model, params = _model_and_params("float64")
        program = jax.make_jaxpr(functools.partial(model.score, params))(np.ones((1, 4), np.int32))
        assert "f64[" in str(program)
        assert "f32[" not in str(program)


@pytest.mark.parametrize(("weights", "buffers"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_buffers_of_another_dtype(weights, buffers):
    """Dtypes may be mixed explicitly; the result equals the float32 model's up to rounding."""
    model, params = _model_and_params("float32")
    tokens = np.arange(24, dtype=np.int32).reshape(2, 12)
    expected = score(model, params, tokens)
    params = jax.tree.map(lambda x: x.astype(weights), params)
    logits = score(dataclasses.replace(model, dtype=buffers), params, tokens)
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_skipped_sublayers_are_the_identity():
    """Skipping both halves of a layer is the model without it; no skip is no change."""
    model, params = _model_and_params("float32")
    tokens = np.arange(10, dtype=np.int32)[None]
    positions, mask = tokens, np.tril(np.ones((1, 10, 10), bool))

    @jax.jit
    def logits(skips):
        cache, scratch = model.init_cache(1, 0), model.init_scratch(1, 10)
        return model.forward(
            params, tokens, positions, cache, scratch, slot=0, mask=mask, skips=skips
        )[0]

    none, last = np.zeros((2, 2), bool), np.array([[False, False], [True, True]])
    np.testing.assert_allclose(logits(none), score(model, params, tokens), atol=ATOL, rtol=0)
    shorter = LlamaModel(dataclasses.replace(_CONFIG, num_layers=1), backend=_IN_CHUNKS)
    kept = {name: value for name, value in params.items() if name != "layers_1"}
    np.testing.assert_allclose(logits(last), score(shorter, kept, tokens), atol=ATOL, rtol=0)


def test_no_logits_wanted():
    """An empty slice of queries costs no output head and still fills the scratch."""
    model, params = _model_and_params("float32")
    tokens, mask = np.arange(4, dtype=np.int32)[None], np.tril(np.ones((1, 4, 4), bool))

    @jax.jit
    def forwards(params):
        args = params, tokens, tokens, model.init_cache(1, 0), model.init_scratch(1, 4)
        wanted = slice(None), slice(-1, None), slice(0, 0)
        return [model.forward(*args, slot=0, mask=mask, logits_for=which) for which in wanted]

    (full, expected), (last, _), (none, scratch) = forwards(params)
    assert none.shape == (1, 0, _CONFIG.vocab_size)
    np.testing.assert_allclose(last, full[:, -1:], atol=1e-5, rtol=0)
    jax.tree.map(np.testing.assert_array_equal, scratch, expected)
