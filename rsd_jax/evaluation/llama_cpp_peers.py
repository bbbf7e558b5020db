"""Decoding by llama.cpp through the library llama-cpp-python, alone or with prompt lookup.

Weights come from a GGUF file of the target and are turned into float32, so llama.cpp computes with
what our methods compute with. Prompts are token ids, and every one is decoded from its beginning.
"""

import ctypes
import itertools
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.evaluation.peers import Peer
from rsd_jax.models.checkpoint import read_config
from rsd_jax.records.hardware import Hardware

LIBRARY = "llama-cpp-python"


def llama_cpp_peers(
    path: str | os.PathLike[str],
    target: LoadedModel,
    sampling: Sampling,
    *,
    capacity: int,
    lookups: Iterable[int],
) -> list[Peer]:
    """Ways of decoding prompts one by one on the CPU, with as many threads as there are cores.

    Top-p is applied before the temperature, as llama.cpp does; our methods apply it after.

    Args:
      path: GGUF file with the target's weights; quantised ones become float32, as in our methods.
      target: the model that our methods decode with.
      sampling: exactly max_new_tokens are produced; its seed is llama.cpp's.
      capacity: positions of the cache; at least the longest prompt, its new tokens and a proposal.
      lookups: of each peer, the tokens that the library's prompt lookup proposes for a pass; 0 for
        none. Each peer has the weights in memory; for a moment they are also in a temporary file.

    Raises:
      CheckpointError: the file cannot be read, or holds a model of other sizes than the target.
      ConfigError: the library is not installed, or see `read_config`.
    """
    library, path = _library(), pathlib.Path(path)
    config, model = read_config(path), target.model
    theirs, ours = ((each.vocab_size, each.num_layers) for each in (config, model))
    if theirs != ours:
        raise CheckpointError(
            f"{path} has (tokens, layers) = {theirs}, the target {ours}; give a file of the same "
            "model"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "float32.gguf"
        _to_float32(library, path, file)
        models = [(n, _load(library, file, capacity, sampling.seed, n)) for n in lookups]
    return [_peer(model, sampling, lookup) for lookup, model in models]


def _peer(model: Any, sampling: Sampling, lookup: int) -> Peer:
    options = {
        "temp": sampling.temperature,
        "top_k": sampling.top_k or 0,
        "top_p": sampling.top_p,
        "min_p": 0.0,
    }

    def decode(batch: Sequence[Sequence[int]]) -> int:
        count = 0
        for prompt in batch:
            model.reset()  # else the beginning that prompts share is not read again
            tokens = model.generate(list(prompt), **options)
            count += sum(1 for _ in itertools.islice(tokens, sampling.max_new_tokens))
        return count

    return Peer("llama_cpp_lookup" if lookup else "llama_cpp", lookup, decode, (LIBRARY,))


def _to_float32(library: Any, source: pathlib.Path, target: pathlib.Path) -> None:
    logging.getLogger(LIBRARY).setLevel(logging.ERROR)  # else a line for each tensor
    options = library.llama_model_quantize_default_params()
    options.ftype = library.LLAMA_FTYPE_ALL_F32
    options.allow_requantize = options.pure = True
    names = (os.fsencode(source), os.fsencode(target))
    if library.llama_model_quantize(*names, ctypes.byref(options)) != 0:
        raise CheckpointError(f"{source}: llama.cpp cannot turn this file into float32")


def _load(library: Any, file: pathlib.Path, capacity: int, seed: int, lookup: int) -> Any:
    draft = None
    if lookup:
        from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

        draft = LlamaPromptLookupDecoding(num_pred_tokens=lookup)
    threads = Hardware.current().cores
    return library.Llama(
        str(file),
        n_ctx=capacity,
        n_threads=threads,
        n_threads_batch=threads,
        seed=seed,
        draft_model=draft,
        use_mmap=False,  # the file is removed
        verbose=False,
    )


def _library() -> Any:
    try:
        import llama_cpp
    except ImportError:
        raise ConfigError(
            f"llama.cpp is called through {LIBRARY}: pip install {LIBRARY} (this compiles "
            "llama.cpp, which takes minutes)"
        ) from None
    return llama_cpp
