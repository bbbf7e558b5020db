"""The results of a finished work directory as Markdown tables."""

import json
import math
import pathlib
from typing import Any

from rsd_jax.errors import ConfigError


def _last_heldout(directory: pathlib.Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    path = directory / "metrics.jsonl"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; run the stage {directory.name} first")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    held_out = [row["heldout"] for row in rows if "heldout" in row]
    return [row for row in rows if "loss" in row], held_out[-1] if held_out else {}


def _row(*cells: Any) -> str:
    shown = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
    return f"| {' | '.join(shown)} |"


def _draft_row(name: str, values: dict[str, float], bytes_per_token: float | None) -> str:
    bits = values["loss"] / math.log(2) / bytes_per_token if bytes_per_token else ""
    measured = ("forward_kl", "acceptance_t1", "acceptance_t0.3")
    return _row(name, values["loss"], bits, *(values.get(key, "") for key in measured))


def report(workdir: str | pathlib.Path) -> str:
    """Tables of cost and training loss per stage, and of the exported pair's held-out measures.

    Raises:
      ConfigError: a stage has not run.
    """
    workdir = pathlib.Path(workdir)
    exported = workdir / "export.json"
    if not exported.is_file():
        raise ConfigError(f"{exported} does not exist; run the export stage first")
    measured = json.loads(exported.read_text())
    lines = [
        _row("stage", "steps", "training loss, last 100 steps", "minutes", "tokens/s"),
        _row(*["---"] * 5),
    ]
    for stage in ("target", "draft_warm_start", "draft"):
        rows, held_out = _last_heldout(workdir / stage)
        seconds = sum(row["seconds"] for row in rows)
        recent = [row["loss"] for row in rows if row["step"] > rows[-1]["step"] - 100]
        lines.append(
            _row(
                f"`{stage}`", rows[-1]["step"], sum(recent) / len(recent),
                round(seconds / 60), round(rows[-1]["tokens"] / seconds),
            )
        )  # fmt: skip
        if stage == "draft_warm_start":
            before = held_out
    head = ("loss", "bits per byte", "KL(target, draft)", "acceptance, T = 1", "T = 0.3")
    for source, pair in measured.items():
        windows = f"{source}: {pair['windows']} held-out windows, bfloat16 weights"
        lines += [
            "",
            _row(windows, *head),
            _row(*["---"] * 6),
            _draft_row("target", pair["target"], pair["bytes_per_token"]),
            _draft_row("draft", pair["draft"], pair["bytes_per_token"]),
        ]
    if before:
        name = "draft before distillation, float32, windows of the mixture"
        lines += ["", _row(name, *head), _row(*["---"] * 6), _draft_row("draft", before, None)]
    return "\n".join(lines)
