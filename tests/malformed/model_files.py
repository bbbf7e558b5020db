"""Malformed files of models: configurations, weights, adapters, GGUF files, tokenizers."""

import dataclasses
import functools
import json
import math
import pathlib
import random
import tempfile
from typing import Any

import numpy as np

from rsd_jax.distillation.data.tokenizer import load_tokenizer as load_trained_tokenizer
from rsd_jax.models.adapter import load_adapter, save_adapter
from rsd_jax.models.checkpoint import load_params, read_config, save_model
from rsd_jax.models.config import RopeConfig
from rsd_jax.models.families import FAMILIES, family_of
from rsd_jax.models.loading import load_tokenizer
from rsd_jax.models.token_map import TOKEN_MAP, TokenMap, read_token_map
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from rsd_jax.text.encoding import encode
from tests import tiny_tokenizers
from tests.gguf_writing import llama_metadata, llama_tensors, tokenizer_metadata, write
from tests.malformed.kinds import Malformed
from tests.malformed.mutants import Mutant, binary_file, json_file, value_mutants


def _small(name: str) -> Any:
    """A small configuration of a family, as its reader gives it."""
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4}
    width = {"ffn_dim": 24} if name == "opt" else {"intermediate_size": 24}
    heads = {} if name == "opt" else {"num_key_value_heads": 2}
    return FAMILIES[name].read_config({"model_type": name} | sizes | width | heads)


CONFIGS = {
    "llama": TINY_CONFIG,
    "llama3": dataclasses.replace(TINY_CONFIG, rope=RopeConfig(kind="llama3", factor=8.0)),
    **{name: _small(name) for name in ("mistral", "qwen2", "qwen3", "opt")},
}


def _config(name: str) -> Malformed:
    def make(folder: pathlib.Path) -> pathlib.Path:
        content = family_of(CONFIGS[name]).write_config(CONFIGS[name])
        path = folder / "config.json"
        path.write_text(json.dumps(content))
        return path

    return Malformed(make, read_config, json_file(120), _config_says)


# Written as other keys, or limited by another key.
_READ_OTHERWISE = {
    "architectures",
    "hidden_act",
    "rope_scaling",
    "sliding_window",
    "use_sliding_window",
}


def _config_says(data: bytes, config: Any) -> None:
    """Every key that was given is in the configuration as it would be written."""
    given, read = json.loads(data), family_of(config).write_config(config)
    for key, value in read.items():
        own = given.get(key)
        if own and key not in _READ_OTHERWISE:
            ids = key.endswith("token_id")
            limited = key == "max_position_embeddings" and 0 < value < own  # to a window
            fits = limited or value == own or (ids and value is None) or value == float(own)
            assert fits, (key, own, value)
    values = [*vars(config).values(), *vars(getattr(config, "rope", RopeConfig())).values()]
    for value in values:
        assert not isinstance(value, int) or value < 2**31, values
        assert not isinstance(value, float) or np.isfinite(np.float32(value)), values
    # All shapes can be listed, as every reader of weights does.
    assert len(family_of(config).tensors(config)) < 10**6


def _ends(folder: pathlib.Path) -> pathlib.Path:
    _config("llama").make(folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [3, 5], "bos_token_id": 1, "do_sample": True}))
    return path


def _ends_say(data: bytes, config: Any) -> None:
    ids = json.loads(data).get("eos_token_id")
    for each in ids if isinstance(ids, list) else [] if ids is None else [ids]:
        assert (each in config.eos_ids) == (each >= 0)


def _token_map(folder: pathlib.Path) -> pathlib.Path:
    TokenMap(12, np.asarray([3, -1, 0, 11, 7], np.int32)).save(folder)
    return folder / TOKEN_MAP


def _both_ways(folder: pathlib.Path) -> Any:
    found = read_token_map(folder, 5)
    return found, None if found is None else found.draft_ids


def _token_map_says(data: bytes, both: Any) -> None:
    found, ids = both
    given = json.loads(data)
    assert found.target_ids.tolist() == given["target_ids"]
    assert len(ids) == given["target_vocab_size"]
    assert np.count_nonzero(ids >= 0) == np.count_nonzero(found.target_ids >= 0)


def _model(folder: pathlib.Path, **options: Any) -> pathlib.Path:
    save_model(folder, TINY_CONFIG, tiny_params(0), dtype="float32", **options)
    return folder / "model.safetensors"


def _sharded(folder: pathlib.Path) -> pathlib.Path:
    _model(folder, max_shard_bytes=10_000)
    return folder / "model.safetensors.index.json"


def _weights(folder: pathlib.Path) -> Any:
    config = read_config(folder)
    return load_params(folder, config, dtype="float32", place=lambda _, stored: stored.read())


def _header_end(data: bytes) -> int:
    """The bytes of the header of a safetensors file."""
    return 8 + int.from_bytes(data[:8], "little")


def _weights_are_whole(data: bytes, params: Any) -> None:
    flat = [params["embed_tokens"]["embedding"]] if "embed_tokens" in params else []
    assert all(array.dtype == np.float32 for array in flat)


def _adapter(folder: pathlib.Path) -> pathlib.Path:
    factor = np.ones((16, 2), np.float32), np.ones((2, 24), np.float32)
    save_adapter(folder, TINY_CONFIG, {("layers_0", "mlp", "up_proj", "kernel"): factor}, base="x")
    return folder / "adapter_config.json"


def _adapter_weights(folder: pathlib.Path) -> pathlib.Path:
    _adapter(folder)
    return folder / "adapter_model.safetensors"


def _adapter_says(data: bytes, adapter: Any) -> None:
    (scale,) = adapter.scales.values()
    ((a, b),) = adapter.factors.values()
    assert math.isfinite(scale)
    assert (a.shape, b.shape) == ((16, 2), (2, 24))
    assert adapter.added_to(*_ZEROS).shape == (16, 24)


_ZEROS = ("layers_0", "mlp", "up_proj", "kernel"), np.zeros((16, 24), np.float32)


def _tokenizer(folder: pathlib.Path, name: str) -> pathlib.Path:
    tiny_tokenizers.chatml().save_pretrained(folder)
    return folder / name


def _tokenizer_encodes(data: bytes, tokenizer: Any) -> None:
    assert all(isinstance(each, int) for each in encode(tokenizer, "Hello"))


def _headers(data: bytes, rng: Any) -> list[Mutant]:
    """Files whose header is another JSON object, of the right length."""
    end = _header_end(data)
    made = json_file(160)(data[8:end], rng)
    return [(what, len(h).to_bytes(8, "little") + h + data[end:]) for what, h in made]


@functools.cache
def gguf_tensors() -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, TINY_CONFIG, tiny_params(0), dtype="float32")
        return llama_tensors(pathlib.Path(folder), TINY_CONFIG)


def _gguf(folder: pathlib.Path) -> pathlib.Path:
    """A GGUF file of a tiny Llama with its tokenizer."""
    return write(folder / "model.gguf", gguf_metadata(), gguf_tensors())


def gguf_metadata() -> dict[str, Any]:
    """What the GGUF file says of its model and its tokenizer."""
    return llama_metadata(TINY_CONFIG) | tokenizer_metadata(
        tiny_tokenizers.chatml(), "smollm", **{"tokenizer.ggml.eos_token_id": 2}
    )


def _read_gguf(folder: pathlib.Path) -> Any:
    path = folder / "model.gguf"
    return read_config(path), _weights(path), load_tokenizer(path)


def _gguf_is_whole(data: bytes, read: Any) -> None:
    config, params, tokenizer = read
    assert config.vocab_size == 32
    _weights_are_whole(data, params)
    _tokenizer_encodes(data, tokenizer)


def _gguf_header(data: bytes) -> int:
    """The bytes before the tensors, all of which are float32."""
    return len(data) - 4 * TINY_CONFIG.num_parameters


def _gguf_values(data: bytes, rng: random.Random) -> list[Mutant]:
    """GGUF files with other metadata, of all that the library can write."""
    metadata = gguf_metadata()
    short = {name: value for name, value in metadata.items() if not isinstance(value, list)}
    lists = {name: value for name, value in metadata.items() if isinstance(value, list)}
    mutants = [(what, lists | own) for what, own in value_mutants(short, 200, rng)]
    mutants += [(what, short | own) for what, own in value_mutants(lists, 100, rng)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for what, changed in mutants:
            if all(map(_can_be_written, changed)) and all(map(_can_be_written, changed.values())):
                path = write(pathlib.Path(folder) / "other.gguf", changed, gguf_tensors())
                found.append((what, path.read_bytes()))
    return found


def _can_be_written(value: Any) -> bool:
    """Whether the library `gguf` has a type for a value."""
    if isinstance(value, list):
        kinds = {type(each) for each in value}
        return len(kinds) == 1 and kinds <= {str, int, float} and all(map(_can_be_written, value))
    if isinstance(value, str):
        return value != "" and "\ud800" not in value
    if isinstance(value, int):
        return 0 <= value < 2**31
    return isinstance(value, float) and not 1e38 < abs(value) < math.inf


MODEL_FILES: dict[str, Malformed] = {
    **{f"config.json of a {name}": _config(name) for name in CONFIGS},
    "generation_config.json": Malformed(_ends, read_config, json_file(60), _ends_say, needed=False),
    "token_map.json": Malformed(
        _token_map,
        _both_ways,
        json_file(100),
        _token_map_says,
        needed=False,
    ),
    "model.safetensors": Malformed(
        _model, _weights, binary_file(160, _header_end), _weights_are_whole
    ),
    "header of model.safetensors": Malformed(_model, _weights, _headers, _weights_are_whole),
    "GGUF file": Malformed(
        _gguf,
        _read_gguf,
        binary_file(200, _gguf_header),
        _gguf_is_whole,
    ),
    "metadata of a GGUF file": Malformed(
        _gguf,
        _read_gguf,
        _gguf_values,
        _gguf_is_whole,
    ),
    "index of shards": Malformed(_sharded, _weights, json_file(80), _weights_are_whole),
    "adapter_config.json": Malformed(
        _adapter, lambda folder: load_adapter(folder, TINY_CONFIG), json_file(160), _adapter_says
    ),
    "adapter_model.safetensors": Malformed(
        _adapter_weights,
        lambda folder: load_adapter(folder, TINY_CONFIG),
        binary_file(80, _header_end),
        _adapter_says,
    ),
    "tokenizer.json": Malformed(
        lambda folder: _tokenizer(folder, "tokenizer.json"),
        load_tokenizer,
        json_file(60),
        _tokenizer_encodes,
    ),
    "tokenizer.json for training": Malformed(
        lambda folder: _tokenizer(folder, "tokenizer.json"),
        load_trained_tokenizer,
        json_file(60),
        _tokenizer_encodes,
    ),
    "tokenizer_config.json": Malformed(
        lambda folder: _tokenizer(folder, "tokenizer_config.json"),
        load_tokenizer,
        json_file(60),
        _tokenizer_encodes,
        needed=False,
    ),
}
