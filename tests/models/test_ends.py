"""The ids that end an answer, from the files of a model: against transformers where it answers."""

import json

import pytest

import rsd_jax
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.checkpoint import read_config, save_model
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel
from rsd_jax.models.loading import ends_of
from tests import tiny_tokenizers
from tests.parity import random_params

_CONFIG = LlamaConfig(
    vocab_size=300,
    hidden_size=16,
    intermediate_size=24,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    eos_ids=(257,),
)
_ABSENT = object()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    save_model(directory, _CONFIG, random_params(LlamaModel(_CONFIG)), dtype="float32")
    return directory


def _write(directory, stated, generation):
    config = json.loads((directory / "config.json").read_text())
    config.pop("eos_token_id", None)
    if stated is not _ABSENT:
        config["eos_token_id"] = stated
    (directory / "config.json").write_text(json.dumps(config))
    path = directory / "generation_config.json"
    path.unlink(missing_ok=True)
    if generation is not _ABSENT:
        path.write_text(json.dumps(generation))


@pytest.mark.parametrize(
    ("stated", "generation", "expected"),
    [
        (257, {"eos_token_id": [257, 258]}, (257, 258)),
        (257, {"eos_token_id": 258}, (257, 258)),
        ([257, 259], {"eos_token_id": [258]}, (257, 259, 258)),
        # Llama's own default, 2, does not count.
        (_ABSENT, {"eos_token_id": [257, 258]}, (257, 258)),
        (None, {"eos_token_id": 258}, (258,)),
        (257, {"eos_token_id": None}, (257,)),
        (257, {"temperature": 0.6}, (257,)),
        (257, _ABSENT, (257,)),
        (_ABSENT, _ABSENT, (2,)),
        (None, _ABSENT, ()),
    ],
)
def test_ends_of_the_files(saved, stated, generation, expected):
    """Every id that transformers stops at is among ours."""
    from transformers import AutoConfig, GenerationConfig

    _write(saved, stated, generation)
    assert read_config(saved).eos_ids == expected
    if generation is _ABSENT:
        theirs = GenerationConfig.from_model_config(AutoConfig.from_pretrained(saved))
    else:
        theirs = GenerationConfig.from_pretrained(saved)
    ids = theirs.eos_token_id
    assert set([ids] if isinstance(ids, int) else ids or []) <= set(expected)


def test_decoding_stops_where_transformers_stops(saved):
    """The greedy answer of a model whose generation_config.json has a second end."""
    import torch
    from transformers import LlamaForCausalLM

    prompt, limit = [5, 6, 7], 8
    _write(saved, 257, _ABSENT)
    model = rsd_jax.load_model(saved)
    method = rsd_jax.build_method("ar")
    options = {"max_new_tokens": limit, "temperature": 0.0}
    (whole,) = rsd_jax.generate(method, model, None, [prompt], **options).tokens
    second = whole[3]
    assert second not in whole[:3]
    _write(saved, 257, {"eos_token_id": [257, second]})
    model = rsd_jax.load_model(saved)
    pair = rsd_jax.LoadedPair(model, None, tiny_tokenizers.chatml())
    assert pair.eos_ids == (257, second)
    result = rsd_jax.generate(method, model, None, [prompt], eos_id=pair.eos_ids, **options)
    theirs = LlamaForCausalLM.from_pretrained(saved, dtype=torch.float32)
    ids = theirs.generate(torch.tensor([prompt]), max_new_tokens=limit, do_sample=False)
    assert result.tokens == [ids[0, len(prompt) :].tolist()]
    assert len(result.tokens[0]) == 4


def test_a_model_without_ends_has_those_of_its_tokenizer(saved):
    _write(saved, None, _ABSENT)
    model = rsd_jax.load_model(saved)
    tokenizer = tiny_tokenizers.chatml()
    assert ends_of(model, tokenizer) == (tokenizer.eos_token_id,)
    with pytest.raises(ConfigError, match=r"add eos_token_id to config\.json"):
        ends_of(model, tiny_tokenizers.chatml(eos_token=None))


def test_a_damaged_generation_config_is_named(saved):
    _write(saved, 257, {"eos_token_id": "</s>"})
    with pytest.raises(ConfigError, match=r"generation_config\.json sets eos_token_id='</s>'"):
        read_config(saved)
    (saved / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config\.json is not JSON"):
        read_config(saved)
