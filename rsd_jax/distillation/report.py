"""The results of a work directory as Markdown tables, as far as its stages have run."""

import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any

from rsd_jax.distillation.draft_decoding import ALL_TASKS, DecodedRow, ratio_interval
from rsd_jax.distillation.workspace import DRAFT, TARGET, WARM_START
from rsd_jax.errors import ConfigError

_BASELINE = "cross_entropy"
_MEASURED = ("loss", "forward_kl", "acceptance_t1", "acceptance_t0.3")


def report(workdir: str | pathlib.Path) -> str:
    """Tables of cost, held-out measures, decoding, scores and losses; those that there are.

    Raises:
      ConfigError: no stage has left anything.
    """
    root = pathlib.Path(workdir)
    tables = [_costs(root)]
    for name, table in (("export", _pair), ("decode", _decoded), ("losses", _losses)):
        path = root / f"{name}.json"
        if path.is_file():
            tables += table(json.loads(path.read_text()))
    tables = [table for table in tables if table]
    if not tables:
        raise ConfigError(f"{root} holds no results; run a stage first")
    return "\n\n".join(tables)


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    def line(cells: Iterable[Any]) -> str:
        shown = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
        return f"| {' | '.join(shown)} |"

    head = list(head)
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f}-{high:.3f})"


def _costs(root: pathlib.Path) -> str:
    rows = []
    for stage in (TARGET, WARM_START, DRAFT):
        path = root / stage / "metrics.jsonl"
        if not path.is_file():
            continue
        logged = [json.loads(line) for line in path.read_text().splitlines()]
        training = [row for row in logged if "loss" in row]
        if not training:
            continue
        seconds, last = sum(row["seconds"] for row in training), training[-1]
        recent = [row["loss"] for row in training if row["step"] > last["step"] - 100]
        rows.append(
            [
                f"`{stage}`",
                last["step"],
                sum(recent) / len(recent),
                round(seconds / 60),
                round(last["tokens"] / seconds),
            ]
        )
    head = ("stage", "steps", "training loss, last 100 steps", "minutes", "tokens/s")
    return _table(head, rows) if rows else ""


def _pair(measured: dict[str, Any]) -> list[str]:
    tables = []
    for source, pair in measured.items():
        head = (
            f"{source}: {pair['windows']} held-out windows, bfloat16 weights",
            "loss",
            "bits per byte",
            "KL(target, draft)",
            "acceptance, T = 1",
            "T = 0.3",
        )
        rows = []
        for name in (TARGET, DRAFT):
            loss, *rest = (pair[name].get(key, "") for key in _MEASURED)
            rows.append([name, loss, loss / math.log(2) / pair["bytes_per_token"], *rest])
        tables.append(_table(head, rows))
    return tables


def _rows(raw: list[dict[str, Any]]) -> list[DecodedRow]:
    return [DecodedRow(**values) for values in raw]


def _decoded(decoded: dict[str, Any]) -> list[str]:
    rows = _rows(decoded["rows"])
    first = rows[0]
    head = (
        f"T = {first.temperature:g}, at most {first.max_new_tokens} new tokens",
        "method",
        "prompts",
        "tokens",
        "block efficiency (95 % interval)",
    )
    tables = [
        _table(
            head,
            [[row.task, row.method, row.num_prompts, row.tokens, _efficiency(row)] for row in rows],
        )
    ]
    if decoded["scores"]:
        scores = decoded["scores"].items()
        tables.append(
            _table(
                ("task", "metric", "prompts", "greedy answers (95 % interval)", "signature"),
                [
                    [
                        task,
                        score["metric"],
                        score["num_prompts"],
                        _interval(score["value"], *score["interval"]),
                        _code(score["signature"]),
                    ]
                    for task, score in scores
                ],
            )
        )
    return tables


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")  # a bar would end the cell
    return f"`{escaped}`"


def _efficiency(row: DecodedRow) -> str:
    return _interval(row.block_efficiency, *row.block_efficiency_interval)


def _losses(results: dict[str, Any]) -> list[str]:
    """Held-out acceptance and block efficiency per loss, and the latter against the baseline's."""
    first = next(iter(results.values()))
    base = {row.method: row for row in _all_tasks(results.get(_BASELINE))}
    methods = [row.method for row in _all_tasks(first)]
    head = [
        f"{first['steps']} steps; acceptance on {first['windows']} windows (95 % interval)",
        "T = 1",
        "T = 0.3",
        *(f"block efficiency, {name}" for name in methods),
        *(f"{name} / {_BASELINE}" for name in methods if base),
    ]
    lines = []
    for objective, result in results.items():
        rows = _all_tasks(result)
        ratios = [
            _interval(
                row.block_efficiency / base[row.method].block_efficiency,
                *ratio_interval(row, base[row.method]),
            )
            for row in rows
            if base and objective != _BASELINE
        ]
        lines.append(
            [
                f"`{objective}`",
                *(_interval(*result["heldout"][f"acceptance_t{t}"]) for t in ("1", "0.3")),
                *map(_efficiency, rows),
                *(ratios or ["1"] * (len(rows) if base else 0)),
            ]
        )
    return [_table(head, lines)]


def _all_tasks(result: dict[str, Any] | None) -> list[DecodedRow]:
    return [row for row in _rows(result["rows"] if result else []) if row.task == ALL_TASKS]
