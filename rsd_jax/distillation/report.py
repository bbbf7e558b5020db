"""The results of a work directory's finished stages as Markdown tables."""

import math
import pathlib
from typing import Any

from rsd_jax.distillation.draft_decoding import ALL_TASKS, DecodedRow, ratio_interval
from rsd_jax.distillation.workspace import DRAFT, TARGET, WARM_START
from rsd_jax.errors import ConfigError
from rsd_jax.records.json_objects import build, json_object
from rsd_jax.reporting.table_formats import Table, number, with_interval

_BASELINE = "cross_entropy"
_MEASURED = ("loss", "forward_kl", "acceptance_t1", "acceptance_t0.3")


def report(workdir: str | pathlib.Path) -> str:
    """Tables of cost, held-out measures, decoding, scores and losses, where there are results.

    Raises:
      ConfigError: there are no results.
    """
    root = pathlib.Path(workdir)
    tables = [_costs(root)]
    for name, table in (("export", _pair), ("decode", _decoded), ("losses", _losses)):
        path = root / f"{name}.json"
        if path.is_file():
            tables += table(json_object(path.read_bytes(), f"{path}: "))
    tables = [table for table in tables if table.rows]
    if not tables:
        raise ConfigError(f"{root} holds no results; run a stage first")
    return "\n\n".join(table.markdown() for table in tables)


def _costs(root: pathlib.Path) -> Table:
    rows = []
    for stage in (TARGET, WARM_START, DRAFT):
        path = root / stage / "metrics.jsonl"
        if not path.is_file():
            continue
        logged = [json_object(line) for line in path.read_bytes().splitlines()]
        training = [row for row in logged if "loss" in row]
        if not training:
            continue
        seconds, last = sum(row["seconds"] for row in training), training[-1]
        timed = sum(row["seconds"] * row.get("tokens_per_second", 0) for row in training)
        recent = [row["loss"] for row in training if row["step"] > last["step"] - 100]
        rows.append(
            [
                f"`{stage}`",
                str(last["step"]),
                number(sum(recent) / len(recent), 3),
                str(round(seconds / 60)),
                str(round(timed / seconds)),
            ]
        )
    heads = ("stage", "steps", "training loss, last 100 steps", "minutes", "tokens/s")
    return Table(heads, rows, frozenset({0}))


def _pair(measured: dict[str, Any]) -> list[Table]:
    tables = []
    for source, pair in measured.items():
        if TARGET not in pair:
            tables.append(_on_responses(source, pair))
            continue
        heads = (
            f"{source}: {pair['windows']} held-out windows, bfloat16 weights",
            "loss",
            "bits per byte",
            "KL(target, draft)",
            "acceptance, T = 1",
            "T = 0.3",
        )
        rows = []
        for name in (TARGET, DRAFT):
            loss, *rest = (pair[name].get(key) for key in _MEASURED)
            values = (loss, loss / math.log(2) / pair["bytes_per_token"], *rest)
            rows.append([name, *(number(value, 3) for value in values)])
        tables.append(Table(heads, rows, frozenset({0})))
    return tables


def _on_responses(source: str, measured: dict[str, Any]) -> Table:
    heads = (
        f"{source}: {measured['windows']} held-out windows, bfloat16 weights",
        "KL(target, draft)",
        "acceptance, T = 1",
        "T = 0.3",
        "same likeliest token",
    )
    keys = (*_MEASURED[1:], "greedy_agreement")
    return Table(
        heads, [[DRAFT, *(number(measured[DRAFT][key], 3) for key in keys)]], frozenset({0})
    )


def _rows(raw: list[dict[str, Any]]) -> list[DecodedRow]:
    return [build(DecodedRow, values) for values in raw]


def _decoded(decoded: dict[str, Any]) -> list[Table]:
    rows = _rows(decoded["rows"])
    first = rows[0]
    heads = (
        f"T = {first.temperature:g}, at most {first.max_new_tokens} new tokens",
        "method",
        "prompts",
        "tokens",
        "block efficiency (95 % interval)",
    )
    lines = [
        [row.task, row.method, str(row.num_prompts), str(row.tokens), _efficiency(row)]
        for row in rows
    ]
    scores = [
        [
            task,
            score["metric"],
            str(score["num_prompts"]),
            with_interval(score["value"], score["interval"], 3),
            f"`{score['signature']}`",
        ]
        for task, score in decoded["scores"].items()
    ]
    scored = ("task", "metric", "prompts", "greedy answers (95 % interval)", "signature")
    return [Table(heads, lines), Table(scored, scores, frozenset({0, 1, 4}))]


def _efficiency(row: DecodedRow) -> str:
    return with_interval(row.block_efficiency, row.block_efficiency_interval, 3)


def _losses(results: dict[str, Any]) -> list[Table]:
    """Held-out acceptance, block efficiency, and its ratio to the baseline's, for each loss."""
    first = next(iter(results.values()))
    base = {row.method: row for row in _all_tasks(results.get(_BASELINE))}
    methods = [row.method for row in _all_tasks(first)]
    heads = [
        f"{first['steps']} steps; acceptance on {first['windows']} windows (95 % interval)",
        "T = 1",
        "T = 0.3",
        *(f"block efficiency, {name}" for name in methods),
        *(f"{name} / {_BASELINE}" for name in methods if base),
    ]
    lines = []
    for objective, result in results.items():
        held_out = (result["heldout"][f"acceptance_t{t}"] for t in ("1", "0.3"))
        rows = _all_tasks(result)
        ratios = [
            with_interval(
                row.block_efficiency / base[row.method].block_efficiency,
                ratio_interval(row, base[row.method]),
                3,
            )
            for row in rows
            if base and objective != _BASELINE
        ]
        lines.append(
            [
                f"`{objective}`",
                *(with_interval(value, ends, 3) for value, *ends in held_out),
                *map(_efficiency, rows),
                *(ratios or ["1"] * (len(rows) if base else 0)),
            ]
        )
    return [Table(heads, lines, frozenset({0}))]


def _all_tasks(result: dict[str, Any] | None) -> list[DecodedRow]:
    return [row for row in _rows(result["rows"] if result else []) if row.task == ALL_TASKS]
