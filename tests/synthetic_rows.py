"""Rows of made-up numbers in the shape of the papers' sweeps, to draw in tests; never results."""

import dataclasses
import math

import numpy as np

from rsd_jax.records.hardware import Hardware
from rsd_jax.records.rows import PARTS, SCHEMA_VERSION, Row, own_verifier
from rsd_jax.records.validation import validate

_HARDWARE = Hardware(cpu="synthetic CPU", cores=2, backend="cpu", device="cpu", num_devices=1)
_R = 0.0174
# (pair, task, metric, acceptance): seven rows of a grid, the last one without a reference metric.
PANELS = (
    ("llama2_7b", "wmt18_de_en", "bleu", 0.45),
    ("llama2_7b", "xsum", "rouge2", 0.60),
    ("llama2_13b", "wmt18_de_en", "bleu", 0.50),
    ("llama2_13b", "xsum", "rouge2", 0.68),
    ("llama2_chat_7b", "wmt18_de_en", "bleu", 0.55),
    ("llama2_chat_7b", "xsum", "rouge2", 0.57),
    ("llama2_chat_7b", "dolly", None, 0.50),
)
_LENGTHS = {
    2: {"rsd_c": ("2-1", "2-2", "3-2", "4-2", "5-5"), "kx": (2, 3, 4, 6)},
    3: {"rsd_c": ("2-1-1", "2-2-1", "2-2-2", "3-2-1"), "kx": (2, 3, 4, 6)},
    4: {"rsd_c": ("2-1-1-1", "2-2-1-1", "2-2-2-1", "2-2-2-2"), "kx": (2, 3, 5, 7)},
    5: {"rsd_c": ("2-1-1-1-1", "2-2-1-1-1", "3-2-1-1-1"), "kx": (2, 3, 5, 6)},
}
_BUDGETS = {
    6: {"rsd_c": ("2-1-1", "2-2", "3-1"), "kx": ((2, 3), (3, 2))},
    10: {"rsd_c": ("2-1-1-1-1", "2-2-1", "5-1"), "kx": ((2, 5), (5, 2))},
    14: {"rsd_c": ("2-1-1-1-1-1-1", "2-2-1-1", "2-2-2", "7-1"), "kx": ((2, 7), (7, 2))},
    21: {"rsd_c": ("3-1-1-1-1-1-1", "3-2-1-1", "3-2-2", "7-1-1", "7-2"), "kx": ((3, 7), (7, 3))},
    30: {"rsd_c": ("2-2-2-2", "5-1-1-1-1-1", "5-5", "6-1-1-1-1", "6-4"), "kx": ((5, 6), (6, 5))},
}


def make(**fields) -> Row:
    """A row from the fields of its header and of its parts, as on disk."""
    return validate({"schema_version": SCHEMA_VERSION} | fields)


def changed(row: Row, **fields) -> Row:
    """The row with other values of fields of its header or of its parts."""
    return validate(row.flat() | fields)


def experiment1(panels=PANELS, seeds=(0,), lengths=_LENGTHS):
    """Rows of a sweep over draft lengths."""
    trees = []
    for length in lengths:
        trees.append(("sd", str(length)))
        trees += [(m, f"{k}x{length}") for m in ("spectr", "rsd_s") for k in _LENGTHS[length]["kx"]]
        trees += [("rsd_c", tree) for tree in _LENGTHS[length]["rsd_c"]]
    return _rows("experiment1", panels, seeds, trees)


def experiment2(panels=PANELS, seeds=(0,)):
    """Rows of a sweep over target budgets."""
    trees = []
    for budget, at in _BUDGETS.items():
        trees.append(("sd", str(budget)))
        trees += [(m, f"{k}x{n}") for m in ("spectr", "rsd_s") for k, n in at["kx"]]
        trees += [("rsd_c", tree) for tree in at["rsd_c"]]
    return _rows("experiment2", panels, seeds, trees)


def failed(row, message):
    """The row of the same cell after a failure."""
    empty = dict.fromkeys(PARTS)
    return dataclasses.replace(row, status="failed", message=message, **empty)


def _rows(experiment, panels, seeds, trees):
    rows = []
    for pair, task, metric, acceptance in panels:
        for seed in seeds:
            rng = np.random.default_rng(seed)
            for method, tree in [("ar", "-"), *dict.fromkeys(trees)]:
                row = _row(method, tree, acceptance, metric, rng)
                place = {"experiment": experiment, "pair": pair, "task": task, "seed": seed}
                rows.append(dataclasses.replace(row, **place))
    return rows


def _counts(method, tree):
    """Widths of the levels."""
    if method == "ar":
        return []
    if "x" in tree:
        width, length = map(int, tree.split("x"))
        return [width] * length
    if method == "rsd_c":
        return np.cumprod(list(map(int, tree.split("-")))).tolist()
    return [1] * int(tree)


def _row(method, tree, acceptance, metric, rng):
    widths = _counts(method, tree)
    gain = {"ar": 0.0, "sd": 0.0, "spectr": 0.35, "rsd_c": 0.55, "rsd_s": 0.7}[method]
    chance, efficiency = 1.0, 1.0
    for width in widths:
        chance *= 1 - (1 - acceptance) / (1 + gain * (width - 1)) ** 0.5
        efficiency += chance
    efficiency *= 1 + 0.01 * rng.standard_normal() * bool(widths)
    efficiency = max(efficiency, 1.0)
    length, budget = len(widths), sum(widths)
    mbsu = efficiency / (1 + _R * length)
    rate = efficiency / (1 + 0.09 * length + 0.004 * budget)
    accuracy = 1 + 0.008 * rng.standard_normal() if widths else 1.0
    blocks = 4096
    values = {
        "block_efficiency": _with_interval(efficiency, 0.04 * bool(widths)),
        "mbsu": _with_interval(mbsu, 0.04 * bool(widths)),
        "token_rate": _with_interval(31.0 * rate, 0.05),
        "token_rate_ratio": _with_interval(rate, 0.05 * bool(widths)),
    }
    fields = {}
    if metric is not None:
        fields |= {"accuracy_metric": metric, "accuracy_signature": f"{metric}|synthetic:yes"}
        values["accuracy"] = _with_interval(24.0 * accuracy, 0.06)
        values["accuracy_ratio"] = _with_interval(accuracy, 0.04 * bool(widths))
    fields |= {name: value for name, (value, _) in values.items()}
    fields |= {f"{name}_interval": ends for name, (_, ends) in values.items()}
    return make(
        source="synthetic",
        kind="decoding",
        pair="",
        task="",
        method=method,
        verifier=own_verifier(method),
        tree=tree,
        draft_length=length,
        target_budget=budget,
        temperature=0.3,
        seed=0,
        hardware=_HARDWARE,
        versions={"jax": "0"},
        template="base",
        max_new_tokens=128,
        batch_size=1,
        dtype="bfloat16",
        num_prompts=100,
        num_skipped=2,
        prompts_sha256="ab" * 32,
        tokens=blocks,
        blocks=blocks,
        produced=math.floor(efficiency * blocks),
        seconds=blocks / (31.0 * rate),
        prefill_timed=True,
        intervals_over="prompts",
        bytes_ratio={"r": _R, "r_bytes": 0.0127},
        compile_time=2.5,
        config_hash="0123456789abcdef",
        **fields,
    )


def _with_interval(value, half):
    return value, (value * (1 - half), value * (1 + half))
