"""llama.cpp as a peer: how its library is called, and what is refused; without the library."""

import ctypes
import dataclasses
import importlib.machinery
import itertools
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest

from rsd_jax.engine.request import Sampling
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.evaluation.llama_cpp_peers import LIBRARY, llama_cpp_peers
from tests import tiny
from tests.gguf_writing import llama_metadata, write

FLOAT32 = 0
SAMPLING = Sampling(max_new_tokens=5, temperature=0.7, top_p=0.9, seed=3)


class _Quantisation(ctypes.Structure):
    _fields_ = [
        ("ftype", ctypes.c_int),
        ("allow_requantize", ctypes.c_bool),
        ("pure", ctypes.c_bool),
    ]


class _Library(types.ModuleType):
    """The part of llama_cpp that is called; `calls` says with what."""

    LLAMA_FTYPE_ALL_F32 = FLOAT32

    def __init__(self):
        super().__init__("llama_cpp")
        self.__spec__ = importlib.machinery.ModuleSpec("llama_cpp", None)
        self.calls = []

        class Llama:
            def __init__(model, path, **options):
                assert pathlib.Path(path).stat().st_size > 0
                self.calls.append(("load", options))
                model.read = []

            def reset(model):
                model.read = []

            def generate(model, tokens, **options):
                assert model.read == [], "what an earlier prompt left would be used again"
                self.calls.append(("generate", options))
                model.read += tokens
                return itertools.count()  # it never ends

        self.Llama = Llama

    def llama_model_quantize_default_params(self):
        return _Quantisation(ftype=7)

    def llama_model_quantize(self, source, target, options):
        options = options._obj
        assert (options.ftype, options.allow_requantize, options.pure) == (FLOAT32, True, True)
        if b"damaged" in source:
            return 1
        shutil.copy(source.decode(), target.decode())
        return 0


@pytest.fixture
def library(monkeypatch):
    found = _Library()
    monkeypatch.setitem(sys.modules, "llama_cpp", found)
    speculative = types.ModuleType("llama_cpp.llama_speculative")
    speculative.LlamaPromptLookupDecoding = lambda **options: options
    monkeypatch.setitem(sys.modules, "llama_cpp.llama_speculative", speculative)
    return found


def _file(path, config):
    """A file with one of its tensors; the stand-in reads none."""
    table = np.zeros((config.vocab_size, config.hidden_size), np.float32)
    return write(path, llama_metadata(config), {"token_embd.weight": table})


@pytest.fixture
def file(tmp_path):
    return _file(tmp_path / "model.gguf", tiny.pair()[0].model.config)


def test_prompts_are_decoded_one_by_one_from_their_beginnings(library, file):
    (peer,) = llama_cpp_peers(file, tiny.pair()[0], SAMPLING, capacity=32, lookups=(0,))
    assert (peer.name, peer.draft_length, peer.libraries) == ("llama_cpp", 0, (LIBRARY,))
    assert peer.decode([[1, 2], [1, 2, 3]]) == 10
    (_, loaded), (_, first), (_, second) = library.calls
    assert (loaded["n_ctx"], loaded["seed"], loaded["draft_model"]) == (32, 3, None)
    assert first == second == {"temp": 0.7, "top_k": 0, "top_p": 0.9, "min_p": 0.0}


def test_prompt_lookup_is_the_librarys(library, file):
    peers = llama_cpp_peers(file, tiny.pair()[0], SAMPLING, capacity=32, lookups=(0, 4))
    named = [(peer.name, peer.draft_length) for peer in peers]
    assert named == [("llama_cpp", 0), ("llama_cpp_lookup", 4)]
    drafts = [options["draft_model"] for _, options in library.calls]
    assert drafts == [None, {"num_pred_tokens": 4}]


def test_what_is_refused(library, file, tmp_path, monkeypatch):
    def peers(path=file):
        return llama_cpp_peers(path, tiny.pair()[0], SAMPLING, capacity=32, lookups=(0,))

    with pytest.raises(CheckpointError, match=r"none\.gguf does not exist"):
        peers(tmp_path / "none.gguf")
    with pytest.raises(CheckpointError, match="cannot turn this file into float32"):
        peers(shutil.copy(file, tmp_path / "damaged.gguf"))
    config = dataclasses.replace(tiny.pair()[0].model.config, num_layers=7)
    with pytest.raises(CheckpointError, match=r"\(tokens, layers\) = \(32, 7\), the target \(32, "):
        peers(_file(tmp_path / "other.gguf", config))
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(ConfigError, match="pip install llama-cpp-python"):
        peers()
