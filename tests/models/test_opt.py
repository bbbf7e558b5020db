"""OPT against transformers in every variation, every bias and norm drawn at random."""

import functools
import inspect
import json
import re
import warnings

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import rsd_jax
from rsd_jax.models.checkpoint import read_config, save_model
from rsd_jax.models.families import FAMILIES
from rsd_jax.models.loading import random_model
from rsd_jax.models.opt import OPTModel
from rsd_jax.models.opt_config import KEYS
from rsd_jax.models.shapes import NAMED_CONFIGS
from tests import tiny
from tests.parity import ATOL, hf_greedy, hf_logits, our_logits, random_params

_SIZES = dict(
    vocab_size=61,
    hidden_size=48,
    ffn_dim=80,
    num_hidden_layers=2,
    num_attention_heads=6,
    max_position_embeddings=50,
)
_POST = {"do_layer_norm_before": False, "word_embed_proj_dim": 20}
_CASES = {
    "pre_norm": {},
    "post_norm": {"do_layer_norm_before": False},
    "post_norm_projected": _POST,  # as 350m
    "pre_norm_projected": {"word_embed_proj_dim": 20},
    "no_bias": {"enable_bias": False},
    "no_norm_weights": {"layer_norm_elementwise_affine": False},
    "no_weights_at_all": {"enable_bias": False, "layer_norm_elementwise_affine": False} | _POST,
    "no_final_norm": {"_remove_final_layer_norm": True},
    "untied": {"tie_word_embeddings": False},
    "untied_projected": {"tie_word_embeddings": False} | _POST,
}
_TOKENS = np.random.default_rng(7).integers(0, _SIZES["vocab_size"], (2, 50))


@pytest.fixture(scope="module", params=_CASES)
def directory(request, tmp_path_factory):
    """A directory written by transformers."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.OPTConfig(**_SIZES | _CASES[request.param])
    model = transformers.OPTForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.normal_(mean, 1.0 if "embed" in name else 0.2)
    path = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(path)
    return path


def test_logits_are_those_of_transformers(directory, tmp_path):
    theirs = hf_logits(directory, _TOKENS)
    np.testing.assert_allclose(our_logits(directory, _TOKENS), theirs, atol=ATOL)
    # Written and read again, by transformers too.
    loaded = rsd_jax.load_model(directory, dtype="float32")
    config = loaded.model.config
    save_model(tmp_path, config, loaded.params, dtype="float32")
    assert read_config(tmp_path) == config
    np.testing.assert_allclose(our_logits(tmp_path, _TOKENS), theirs, atol=ATOL)
    np.testing.assert_allclose(hf_logits(tmp_path, _TOKENS), theirs, atol=ATOL)
    shapes = jax.eval_shape(loaded.model.init_params, jax.random.key(0))
    assert config.num_parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _config(**others):
    return FAMILIES["opt"].read_config({"model_type": "opt"} | _SIZES | others)


@pytest.mark.parametrize("name", ["pre_norm", "untied_projected"])
def test_axes_and_tensors_agree_with_the_network(name):
    config, family = _config(**_CASES[name]), FAMILIES["opt"]
    shapes = jax.eval_shape(OPTModel(config).init_params, jax.random.key(0))
    flat = {
        tuple(str(k.key) for k in path): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]
    }
    assert flat == {spec.path: spec.shape for spec in family.tensors(config).values()}
    for path, shape in flat.items():
        axes, units = family.axes(config, path)
        assert len(axes) == len(units) == len(shape)
    # A step reads neither the positions nor an untied table.
    gathered = [_leaf(shapes, "embed_positions", "embedding").size]
    if not config.tied_embeddings:
        gathered.append(_leaf(shapes, "embed_tokens", "embedding").size)
    assert config.num_parameters_read == config.num_parameters - sum(gathered)
    layer = sum(leaf.size for leaf in jax.tree.leaves(shapes["layers_0"]))
    assert config.attention_parameters + config.mlp_parameters == layer


def _leaf(tree, *path):
    for name in path:
        tree = tree[name]
    return tree


def test_names_without_the_start_of_the_model(tmp_path):
    """As files of `OPTModel` have them; with the head's copy of the table, and without."""
    config = _config()
    save_model(tmp_path, config, random_params(OPTModel(config)), dtype="float32")
    expected = our_logits(tmp_path, _TOKENS)
    file = tmp_path / "model.safetensors"
    short = {name.removeprefix("model."): value for name, value in load_file(file).items()}
    assert all(name.startswith("decoder.") for name in short)
    save_file(short, file, metadata={"format": "pt"})
    np.testing.assert_array_equal(our_logits(tmp_path, _TOKENS), expected)
    np.testing.assert_allclose(hf_logits(tmp_path, _TOKENS), expected, atol=ATOL)
    head = short["decoder.embed_tokens.weight"]
    save_file(short | {"lm_head.weight": head}, file, metadata={"format": "pt"})
    np.testing.assert_array_equal(our_logits(tmp_path, _TOKENS), expected)
    save_file(short | {"lm_head.weight": -head}, file, metadata={"format": "pt"})
    with pytest.raises(rsd_jax.CheckpointError, match=r"differs from decoder\.embed_tokens"):
        rsd_jax.load_model(tmp_path)


def test_a_pickle_alone_says_how_to_convert(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "opt"} | _SIZES))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(rsd_jax.CheckpointError, match=r"pytorch_model\.bin.*save_pretrained"):
        rsd_jax.load_model(tmp_path)


def test_defaults_are_those_of_transformers():
    import transformers

    theirs = transformers.OPTConfig()
    ours = FAMILIES["opt"].read_config({"model_type": "opt"})
    assert ours == FAMILIES["opt"].read_config(theirs.to_dict())
    assert (ours.bos_id, ours.eos_ids, ours.max_positions) == (2, (2,), 2048)
    written = transformers.AutoConfig.for_model(**FAMILIES["opt"].write_config(_config(**_POST)))
    assert FAMILIES["opt"].read_config(written.to_dict()) == _config(**_POST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_function": "gelu", "auto_map": {"x": 1}}, "auto_map.*activation_function='"),
        ({"architectures": ["OPTForSequenceClassification"]}, "architectures="),
        ({"num_attention_heads": 5}, "hidden_size=48 must be a multiple"),
        ({"ffn_dim": 0}, "ffn_dim=0"),
        ({"enable_bias": "yes"}, "enable_bias='yes'"),
        ({"word_embed_proj_dim": 1.5}, "word_embed_proj_dim=1.5"),
    ],
)
def test_refused(change, message):
    with pytest.raises(rsd_jax.ConfigError, match=message):
        _config(**change)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Directories of a target and a draft with the options of 13b and 350m."""
    path = tmp_path_factory.mktemp("pair")
    for seed, (name, config) in enumerate({"target": _config(), "draft": _config(**_POST)}.items()):
        save_model(path / name, config, random_params(OPTModel(config), seed=seed), dtype="float32")
    return path


# The first token is EOS, which is also BOS.
_PROMPTS = [[2, 3, 1, 4], [2, 1, 5, 9, 2, 6]]


@pytest.mark.parametrize(
    ("name", "mesh"),
    # One method of each kind of drafter, some also on a mesh: other methods see the model alike.
    [(name, None) for name in ("ar", "rsd_s", "swift")]
    + [(name, (2, 2)) for name in ("rsd_s", "swift")],
)
def test_every_method_is_greedy_decoding_of_transformers(pair, name, mesh):
    devices = None if mesh is None else jax.make_mesh(mesh, ("data", "model"))
    target, draft = (
        rsd_jax.load_model(pair / folder, dtype="float32", mesh=devices)
        for folder in ("target", "draft")
    )
    if mesh is not None:
        kernel = target.params["layers_0"]["self_attn"]["q_proj"]["kernel"]
        assert kernel.sharding.spec[1] == "model"
    method = tiny.method(name)
    options = dict(max_new_tokens=12, temperature=0.0, **tiny.skips(name))
    uses = draft if name in tiny.DRAFTING else None
    result = rsd_jax.generate(method, target, uses, _PROMPTS, eos_id=None, **options)
    assert result.tokens == hf_greedy(pair / "target", _PROMPTS, 12)
    # An EOS in the prompt stops nothing; one among the new tokens does.
    stop = result.tokens[0][3]
    prompts = [[stop, *prompt[1:]] for prompt in _PROMPTS]
    stopped = rsd_jax.generate(method, target, uses, prompts, eos_id=stop, **options)
    assert stopped.tokens == hf_greedy(pair / "target", prompts, 12, eos_id=stop)


def test_positions_end_with_the_table(pair):
    """The last position is used; the tree of the last block hangs over it."""
    target, draft = (
        rsd_jax.load_model(pair / name, dtype="float32") for name in ("target", "draft")
    )
    method, prompt = rsd_jax.build_method("sd", length=3), _TOKENS[:1, :38].tolist()
    run = functools.partial(rsd_jax.generate, method, target, draft, temperature=0.0, eos_id=None)
    expected = hf_greedy(pair / "target", prompt, 12)
    assert run(prompt, max_new_tokens=12).tokens == expected
    with pytest.raises(rsd_jax.ConfigError, match="50"):
        run(prompt, max_new_tokens=13)


def test_another_limit_is_the_same_table(pair):
    target = rsd_jax.load_model(pair / "target", dtype="float32")
    longer = target.model.with_max_positions(2**20)
    assert longer.max_positions == 2**20
    assert longer.with_max_positions(50) == target.model
    tokens = np.tile(_TOKENS, 2)
    logits = longer.score(target.params, tokens)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(
        logits[:, :50], target.model.score(target.params, _TOKENS), atol=ATOL
    )


def test_random_weights_have_no_biases(monkeypatch):
    monkeypatch.setitem(NAMED_CONFIGS, "tiny_opt", _config())
    loaded = random_model("tiny_opt", layers=1)
    layer = loaded.params["layers_0"]
    assert (layer["self_attn_layer_norm"]["scale"] == 1).all()
    assert not layer["self_attn_layer_norm"]["bias"].any()
    assert not layer["mlp"]["fc1"]["bias"].any()
    assert loaded.model.num_layers == 1


def test_every_key_of_transformers_is_in_a_list():
    """Those that its class declares, and those that its modelling code mentions."""
    import transformers
    from transformers.models.opt import modeling_opt

    known = KEYS.read | KEYS.inert | set(KEYS.plain)
    mentioned = set(re.findall(r"config\.(\w+)", inspect.getsource(modeling_opt)))
    heads_of_other_tasks = {"num_labels"}
    dump = transformers.OPTConfig(**_SIZES).to_dict()
    assert {*dump, *mentioned} - heads_of_other_tasks <= known
    assert not KEYS.read & KEYS.inert
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FAMILIES["opt"].read_config(dump) == _config()
