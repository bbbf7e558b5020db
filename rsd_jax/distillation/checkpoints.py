"""Training state on disk, with orbax."""

import pathlib
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from rsd_jax.errors import CheckpointError

_Tree = TypeVar("_Tree")


class Checkpoints:
    """The last few training states of one run; a state is complete on disk or not there at all.

    Attributes:
      directory: where they are.
    """

    def __init__(self, directory: str | pathlib.Path, *, keep: int = 2):
        self.directory = pathlib.Path(directory).resolve()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def latest_step(self) -> int | None:
        """Steps done in the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Writes a pytree of arrays; returns when it is on disk. A step already there stays."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, like: _Tree) -> _Tree:
        """The newest state, in the structure, shapes and dtypes of `like`.

        Raises:
          CheckpointError: there is none, or it holds another structure or other shapes.
        """
        step = self.latest_step()
        if step is None:
            raise CheckpointError(f"{self.directory} holds no checkpoint; train this stage first")
        found = _shapes(self._manager.item_metadata(step).tree)
        if found != _shapes(like):
            different = sorted(
                name for name in found | _shapes(like) if found.get(name) != _shapes(like).get(name)
            )
            raise CheckpointError(
                f"checkpoint {step} in {self.directory} does not fit this model and optimiser "
                f"(at {different[0]}); use another workdir or the configuration that wrote it"
            )
        abstract = jax.tree.map(_on_default_device, jax.eval_shape(lambda tree: tree, like))
        return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every leaf by its path; an attribute and a dict key of one name are the same."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        "/".join(jax.tree_util.keystr((key,), simple=True) for key in path): tuple(leaf.shape)
        for path, leaf in leaves
    }


def _on_default_device(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
