"""Part `check`: tokens, laws and random bits of a tiny pair, held against the record of a CPU."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from rsd_jax.core.backend import backend_of
from rsd_jax.core.types import LoadedModel
from rsd_jax.evaluation.accelerator.bench import with_backend
from rsd_jax.evaluation.accelerator.cells import Cell
from rsd_jax.evaluation.accelerator.settings import Settings
from rsd_jax.evaluation.divergence import first_divergences, margin
from rsd_jax.evaluation.measured_rows import header
from rsd_jax.records.device_parts import Agreement

PART = "check"
TIE = 1e-4
"""Largest margin of two float32 logits, and largest total variation of laws, that rounding
explains under matmul precision "highest"."""

_BFLOAT16 = ("sd", "rsd_c", "rsd_s")  # methods that are compared with "ar" in bfloat16


@dataclasses.dataclass(frozen=True)
class Reference:
    """The record of a CPU, and the functions that made it; see `rsd_jax.testing.fixed_seeds`.

    Attributes:
      tokens: new tokens of every prompt at T = 0, by method.
      laws: f32[2, positions, V], laws of target and draft.
      bits: SHA-256 of random bits.
      prompts: the prompts.
      pair: from the name of a dtype to target and draft.
      decode: from a method's name, target and draft to `tokens` of this device.
      find_laws: from target and draft to `laws` of this device.
      find_bits: returns `bits` of this device.
    """

    tokens: dict[str, list[list[int]]]
    laws: np.ndarray
    bits: str
    prompts: Sequence[Sequence[int]]
    pair: Callable[[str], tuple[LoadedModel, LoadedModel]]
    decode: Callable[[str, LoadedModel, LoadedModel], list[list[int]]]
    find_laws: Callable[[LoadedModel, LoadedModel], np.ndarray]
    find_bits: Callable[[], str]


def check_cells(settings: Settings, reference: Reference) -> list[Cell]:
    """Random bits, laws, greedy tokens of each method in float32, then in bfloat16."""
    names = [n for n in reference.tokens if settings.checked is None or n in settings.checked]
    cells = [
        _cell(reference, "random bits", "-", "float32", _bits),
        _cell(reference, "laws", "-", "float32", _laws),
    ]
    cells += [
        _cell(reference, "tokens", name, "float32", functools.partial(_recorded, name))
        for name in names
    ]
    return cells + [
        _cell(reference, "tokens", name, "bfloat16", functools.partial(_beside_ar, name))
        for name in names
        if name in _BFLOAT16
    ]


def _pair(reference: Reference, dtype: str) -> list[LoadedModel]:
    """Target and draft, with the choices for this device."""
    return [with_backend(loaded, backend_of(None)) for loaded in reference.pair(dtype)]


def _cell(
    reference: Reference,
    what: str,
    method: str,
    dtype: str,
    compare: Callable[[Reference, str], Agreement],
) -> Cell:
    def fields() -> dict[str, Any]:
        named: dict[str, Any] = {"method": method, "tree": "-", "draft_length": 0, "dtype": dtype}
        return header(None, kind="check", pair="tiny", task=what, **named)

    def measure() -> dict[str, Any]:
        with jax.default_matmul_precision("highest"):
            return {"agreement": compare(reference, dtype)}

    return Cell(PART, f"{what}, {method}, {dtype}", fields, measure)


def _bits(reference: Reference, _dtype: str) -> Agreement:
    same = reference.find_bits() == reference.bits
    return Agreement(
        compared=1, different=int(not same), agrees=same, tolerance=0.0, differences=[]
    )


def _laws(reference: Reference, dtype: str) -> Agreement:
    found = reference.find_laws(*_pair(reference, dtype))
    variations = 0.5 * np.abs(found - reference.laws).sum(axis=-1)
    largest = float(variations.max())
    return Agreement(
        compared=variations.size,
        different=int((variations > TIE).sum()),
        agrees=largest <= TIE,
        tolerance=TIE,
        differences=[largest],
    )


def _recorded(name: str, reference: Reference, dtype: str) -> Agreement:
    """Tokens of this device against those of the record."""
    target, draft = _pair(reference, dtype)
    found = reference.decode(name, target, draft)
    return _tokens(target, reference, found, reference.tokens[name], TIE)


def _beside_ar(name: str, reference: Reference, dtype: str) -> Agreement:
    """Tokens of a method against those of autoregressive decoding, both on this device."""
    target, draft = _pair(reference, dtype)
    found, base = (reference.decode(each, target, draft) for each in (name, "ar"))
    return _tokens(target, reference, found, base, None)


def _tokens(
    target: LoadedModel,
    reference: Reference,
    found: Sequence[Sequence[int]],
    expected: Sequence[Sequence[int]],
    tolerance: float | None,
) -> Agreement:
    margins = [
        margin(target, [*reference.prompts[one.row], *found[one.row][: one.index]])
        for one in first_divergences(found, expected)
    ]
    return Agreement(
        compared=len(expected),
        different=len(margins),
        agrees=tolerance is None or max(margins, default=0.0) <= tolerance,
        tolerance=tolerance,
        differences=margins,
    )
