"""Scalars for TensorBoard, if a library that writes them is installed."""

import pathlib
from collections.abc import Mapping
from typing import Any


def open_scalars(directory: pathlib.Path, start: int) -> "Scalars | None":
    """A writer of event files into `directory`; None if there is no library for it.

    tensorboardX is preferred to tensorboard, because it hides what a run that was killed wrote
    after the checkpoint that is resumed from.

    Args:
      directory: made if it does not exist.
      start: steps done; scalars of later steps that an earlier run left are to be ignored.
    """
    try:
        from tensorboardX import SummaryWriter

        return Scalars(SummaryWriter(str(directory), purge_step=start + 1 if start else None))
    except ImportError:
        pass
    try:
        from tensorboard.summary import Writer

        return Scalars(Writer(str(directory)))
    except ImportError:
        return None


class Scalars:
    """Rows of metrics.jsonl as scalars: "train/..." for training rows, "heldout/..." for others."""

    def __init__(self, writer: Any):
        self._writer = writer

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes the numbers of one row at its "step"."""
        kind = "heldout" if "heldout" in row else "train"
        for name, value in row.get("heldout", row).items():
            if name != "step":
                self._writer.add_scalar(f"{kind}/{name}", value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Ends the file of events."""
        self._writer.close()
