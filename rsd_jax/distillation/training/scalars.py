"""Scalars for TensorBoard."""

import pathlib
from collections.abc import Mapping
from typing import Any


class Scalars:
    """Writes rows of metrics.jsonl as scalars: "train/..." or "heldout/...".

    The scalars go to an event file in a directory, which is created if it does not exist.
    """

    def __init__(self, directory: pathlib.Path, start: int):
        """Hides the scalars of an earlier run for steps after `start`, the number of steps done.

        Raises:
          ImportError: tensorboardX is not installed.
        """
        from tensorboardX import SummaryWriter  # machines that are lent may lack the library

        self._writer = SummaryWriter(str(directory), purge_step=start + 1 if start else None)

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes the numbers of one row at its "step"."""
        kind = "heldout" if "heldout" in row else "train"
        for name, value in row.get("heldout", row).items():
            if name != "step":
                self._writer.add_scalar(f"{kind}/{name}", value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def open_scalars(directory: pathlib.Path, start: int) -> Scalars | None:
    """`Scalars`; None without tensorboardX, as metrics.jsonl has the same numbers."""
    try:
        return Scalars(directory, start)
    except ImportError:
        return None
