"""Training state on disk, with orbax; damage is found before a state is used."""

import contextlib
import hashlib
import logging
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from rsd_jax.core.processes import on_writer
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.records.complete_files import write_json
from rsd_jax.records.json_objects import json_object

_Tree = TypeVar("_Tree")
_OF_SYSTEM = "os_error_code"  # in Orbax's errors
_SUMS = "sha256.json"


class _Unreadable(Exception):
    """A checkpoint is damaged or half-written; the message says how."""


class Checkpoints:
    """The last few training states of one run; a state on disk is complete.

    With several processes, each writes what its devices hold, to a folder that all of them see.

    Orbax notices missing and truncated files but not a changed byte. Checksums of the files are
    therefore stored with a checkpoint. Checkpoints without checksums are read unchecked.

    Attributes:
      directory: directory of the checkpoints.
    """

    def __init__(self, directory: str | pathlib.Path, *, keep: int = 2):
        self.directory = pathlib.Path(directory).resolve()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )
        self._unreadable: list[int] = []

    def latest_step(self) -> int | None:
        """Steps done in the newest checkpoint, readable or not, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Writes a pytree of arrays; returns when it is on disk. An existing step is kept.

        Checkpoints that `restore` could not read are removed first; they are newer than the state
        that the run resumed from.

        Raises:
          OSError: the disk is full, or cannot be written to; earlier checkpoints stay as they are.
        """
        while self._unreadable:
            self._manager.delete(self._unreadable.pop())
        if step not in self._manager.all_steps():
            try:
                with _unlogged():
                    self._manager.save(step, args=ocp.args.StandardSave(state))
            except ValueError as error:  # what Orbax makes of an error of the system
                if _OF_SYSTEM not in str(error):
                    raise
                reason = str(error).rpartition(": ")[2].partition(" [")[0]
                raise OSError(
                    f"checkpoint {step} cannot be written to {self.directory} ({reason}); earlier "
                    "checkpoints are intact"
                ) from None
            on_writer(_write_sums, self._folder(step))

    def restore(self, like: _Tree) -> tuple[int, _Tree]:
        """The number of steps of the newest readable state, and this state.

        Warns, naming both steps, if newer states are damaged or half-written.

        Args:
          like: structure, shapes and dtypes; leaves with a sharding are restored to it, all other
            leaves to the default device.

        Raises:
          CheckpointError: there is no readable state, or a state has another structure or other
            shapes.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        if not steps:
            raise CheckpointError(f"{self.directory} holds no checkpoint; train this stage first")
        damage = []
        for step in steps:
            try:
                state = self._read(step, like)
            except _Unreadable as error:
                damage.append(f"checkpoint {step} in {self.directory} cannot be read ({error})")
                self._unreadable.append(step)
                continue
            if damage:
                warnings.warn(f"{'; '.join(damage)}; going on from checkpoint {step}", stacklevel=2)
            return step, state
        raise CheckpointError(
            f"{'; '.join(damage)}; there is no other: remove the directory to train from the start"
        )

    def _read(self, step: int, like: _Tree) -> _Tree:
        """One state; raises `_Unreadable`, or `CheckpointError` for another structure."""
        verified = on_writer(_verify, self._folder(step))
        try:
            found, wanted = _shapes(self._manager.item_metadata(step).tree), _shapes(like)
            if found != wanted:
                names = found | wanted
                different = sorted(name for name in names if found.get(name) != wanted.get(name))
                raise CheckpointError(
                    f"checkpoint {step} in {self.directory} does not fit this model and optimiser "
                    f"(at {different[0]}); use another workdir or the configuration that wrote it"
                )
            abstract = jax.tree.map(_abstract, like)
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except CheckpointError:
            raise
        except Exception as error:  # Orbax raises errors of many types.
            if verified:  # The files are undamaged: something else is wrong.
                raise
            reason = str(error).partition("\n")[0][:200]
            raise _Unreadable(f"{type(error).__name__}: {reason}") from error

    def _folder(self, step: int) -> pathlib.Path:
        return self.directory / str(step)

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps Orbax from logging the traceback of an error that it also raises."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _sums(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file in a folder by its path, without hidden files and the sums."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _SUMS and not path.name.startswith("."):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            sums[path.relative_to(folder).as_posix()] = digest
    return sums


def _write_sums(folder: pathlib.Path) -> None:
    write_json(folder / _SUMS, _sums(folder))


def _verify(folder: pathlib.Path) -> bool:
    """Whether a checkpoint has sums; raises `_Unreadable` if a file does not match its sum."""
    path = folder / _SUMS
    if not path.is_file():
        return False
    try:
        expected = json_object(path.read_bytes())
    except ConfigError as error:
        raise _Unreadable(f"{_SUMS} is damaged") from error
    found = _sums(folder)
    for name, digest in expected.items():
        if name not in found:
            raise _Unreadable(f"{name} is missing")
        if found[name] != digest:
            raise _Unreadable(f"{name} is not as it was written")
    return True


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every leaf by its path; attributes and dict keys look the same in a path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        "/".join(jax.tree_util.keystr((key,), simple=True) for key in path): tuple(leaf.shape)
        for path, leaf in leaves
    }


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
