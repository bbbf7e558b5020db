"""Reads GGUF files, the format of llama.cpp, through the library `gguf`."""

import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from rsd_jax.errors import CheckpointError, ConfigError

SUFFIX = ".gguf"
_AGAIN = "download it again"
# What the library raises for a file that ends too early or holds something else.
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError)


class GgufTensor(NamedTuple):
    """One tensor of a GGUF file.

    Attributes:
      shape: as in Hugging Face's files, matrices of dense layers [out, in].
      values: gives f32[shape]; quantised values are computed at every call.
    """

    shape: tuple[int, ...]
    values: Callable[[], np.ndarray]


class GgufFile(NamedTuple):
    """The content of a GGUF file.

    Attributes:
      path: of the file.
      metadata: the key-value pairs; arrays are tuples.
      tensors: by the names of the file.
    """

    path: pathlib.Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]


def is_gguf(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a GGUF file, by the end of its name."""
    return pathlib.Path(path).suffix.lower() == SUFFIX


def read_gguf(path: str | os.PathLike[str]) -> GgufFile:
    """Reads the metadata of a GGUF file and the places of its tensors.

    Raises:
      CheckpointError: the file is missing, truncated, damaged or one of several parts, or a tensor
        is in a format that cannot be read; names the tensor.
      ConfigError: the library `gguf` is not installed.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist; give the path of a downloaded GGUF file")
    state = file.stat()
    return _read(file, state.st_size, state.st_mtime_ns)


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise ConfigError("GGUF files need the library gguf: pip install 'rsd_jax[gguf]'") from None
    return gguf


# Configuration, weights and tokenizer are read one after another; the metadata takes seconds. The
# size and the time of the last change are arguments, so that a changed file is read anew.
@functools.lru_cache(maxsize=2)
def _read(path: pathlib.Path, size: int, changed: int) -> GgufFile:
    gguf = _library()
    try:
        reader = _reader(gguf, path)
        metadata = {name: _plain(gguf, field) for name, field in reader.fields.items()}
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path} is truncated or not a GGUF file that can be read ({error}); {_AGAIN} (if it "
            "is a small text file, a git-lfs pointer, run git lfs pull)"
        ) from None
    if reader.byte_order != "I":
        raise CheckpointError(f"{path} has the byte order of other machines; convert it again")
    parts = metadata.get("split.count", 0)
    if parts not in (0, 1):
        raise CheckpointError(
            f"{path} is one of {parts} parts; merge them: llama-gguf-split --merge {path.name} OUT"
        )
    tensors = {
        tensor.name: GgufTensor(
            tuple(int(size) for size in reversed(tensor.shape)),
            functools.partial(gguf.quants.dequantize, tensor.data, tensor.tensor_type),
        )
        for tensor in reader.tensors
    }
    return GgufFile(path, metadata, tensors)


def _plain(gguf: Any, field: Any) -> Any:
    """The value of a field. A float32 becomes its shortest decimal, as config.json has it."""
    value = field.contents()
    if field.types == [gguf.GGUFValueType.FLOAT32]:
        return float(str(np.float32(value)))
    return tuple(value) if isinstance(value, list) else value


def _reader(gguf: Any, path: pathlib.Path) -> Any:
    """The library's reader; its errors name the tensor at fault."""

    class Reader(gguf.GGUFReader):
        @property
        def data(self) -> np.ndarray:
            return self._data

        @data.setter
        def data(self, mapped: np.memmap) -> None:
            # Slices of a plain array are three times as fast as those of a memmap.
            self._data = mapped.view(np.ndarray)

        def _build_tensors(self, start_offs: int, fields: list[Any]) -> None:
            for field in fields:
                _, name, _, dims, kind, offset = field.parts
                place = f"the tensor {bytes(name).decode()} in {path}"
                block, width = _block(gguf, int(kind[0]), place)
                count = int(np.prod(dims, dtype=np.uint64))
                end = int(start_offs + offset[0]) + count // block * width
                if end > len(self.data):
                    raise CheckpointError(
                        f"{path} is truncated: {place} ends at byte {end}, the file at byte "
                        f"{len(self.data)}; {_AGAIN}"
                    )
            super()._build_tensors(start_offs, fields)

    return Reader(path)


def _block(gguf: Any, kind: int, place: str) -> tuple[int, int]:
    """Values and bytes of a block of a tensor's format; an error if it cannot be read."""
    try:
        known = gguf.GGMLQuantizationType(kind)
    except ValueError:
        raise CheckpointError(
            f"{place} has the unknown format {kind}; update the library gguf, or give a file of "
            "another quantisation"
        ) from None
    block, width = gguf.GGML_QUANT_SIZES[known]
    try:
        gguf.quants.dequantize(np.zeros((1, width), np.uint8), known)
    except NotImplementedError:
        raise CheckpointError(
            f"{place} has the format {known.name}, which the library gguf cannot turn into "
            "floats; give a file of another quantisation, such as Q4_K_M, Q8_0 or F16"
        ) from None
    return block, width
