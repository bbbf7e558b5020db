"""Styles of methods and verifiers in all figures, and writing of figures to files."""

import dataclasses
import io
import math
import os
import pathlib
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from rsd_jax.errors import ConfigError

FORMATS = ("png", "pdf", "svg")
GREY = "#555555"
_HANDLE, _LETTER = 0.78, 0.083  # widths in inches of a legend's handle and of a letter
# Without dates and with fixed ids: the same rows give the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
_SETTINGS: Any = {"svg.hashsalt": "rsd_jax", "svg.fonttype": "path", "pdf.fonttype": 42}


@dataclasses.dataclass(frozen=True)
class Style:
    """How a method is drawn, as in the published figures.

    Attributes:
      label: name of the method.
      color: color of lines and bars.
      line: matplotlib line style.
      marker: matplotlib marker, or "" for none.
    """

    label: str
    color: str
    line: str
    marker: str


STYLES: dict[str, Style] = {
    "ar": Style("AR", "#8c8c8c", "-", ""),
    "sd": Style("SD", "#ff7f0e", ":", ""),
    "spectr": Style("SpecTr", "#d62728", "--", ""),
    "rsd_c": Style("RSD-C", "#2ca02c", "--", "D"),
    "rsd_s": Style("RSD-S", "#1f77b4", "-", "o"),
    "lookup": Style("lookup", "#8c564b", ":", "^"),
    "dynamic": Style("dynamic", "#e377c2", "--", "v"),
    "dyspec": Style("DySpec", "#17becf", "-", "d"),
    "beam": Style("beam", "#bcbd22", "--", "<"),
    "mixed_beam": Style("mixed beam", "#bcbd22", "-", ">"),
    "static": Style("static tree", "#9467bd", "-.", "p"),
}
_OTHER = Style("", "#4d4d4d", "-", "s")

VERIFIER_STYLES: dict[str, Style] = {
    "recursive_rejection": Style("recursive rejection", "#8c8c8c", "-", "v"),
    "k_seq": Style("K-SEQ", "#d62728", "--", "^"),
    "match": Style("match", "#9467bd", ":", "P"),
    "block": Style("block", "#ff7f0e", "-.", "s"),
    "traversal": Style("traversal", "#2ca02c", "--", "D"),
    "coupling": Style("coupling", "#1f77b4", "-", "X"),
}
"""How verifiers are drawn that are compared on the same trees."""


def style_of(variant: str) -> Style:
    """The style of a variant, see `Row.variant`.

    A method with another than its default verifier gets a darker color and the verifier's marker.
    A method that is not in `STYLES` gets dark squares and its name.
    """
    method, _, verifier = variant.partition("/")
    style = STYLES.get(method) or dataclasses.replace(_OTHER, label=method)
    if not verifier:
        return style
    known = VERIFIER_STYLES.get(verifier, Style(verifier, "", "", "X"))
    return Style(
        label=f"{style.label}, {known.label}",
        color="#" + "".join(f"{int(style.color[i : i + 2], 16) * 3 // 5:02x}" for i in (1, 3, 5)),
        line=style.line,
        marker=known.marker,
    )


def in_order(variants: Iterable[str]) -> list[str]:
    """Each variant once: first methods of `STYLES` in its order, then all other methods by name."""
    known = list(STYLES)

    def place(variant: str) -> tuple[int, str]:
        method = variant.partition("/")[0]
        return known.index(method) if method in known else len(known), variant

    return sorted(set(variants), key=place)


def check_formats(formats: Sequence[str]) -> None:
    """Raises `ConfigError` for a format that is not in `FORMATS`."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ConfigError(f"figure format {unknown[0]!r} is not known; choose of {list(FORMATS)}")


def new_figure(rows: int, columns: int, size: tuple[float, float], lines: int) -> tuple[Any, Any]:
    """A grid of panels of fixed size in inches, with room below for a legend and a caption.

    Args:
      rows, columns: numbers of panels.
      size: width and height of a panel, labels included.
      lines: number of lines of the caption.

    Returns:
      figure, axes [rows, columns].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, bottom = columns * size[0] + 0.2, 0.95 + 0.16 * lines
    height = rows * size[1] + 0.1 + bottom
    figure = Figure(figsize=(width, height), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    gap = 0.42  # inches between rows, for the title of the next row
    figure.subplots_adjust(
        left=0.62 / width,
        right=1 - 0.15 / width,
        bottom=bottom / height,
        top=1 - 0.38 / height,
        hspace=gap / (size[1] - gap),
    )
    return figure, axes


def wrapped(text: str, width: float) -> list[str]:
    """Lines of about equal length of a caption, for a figure of `width` inches."""
    most = int(width * 15.5)
    even = math.ceil(len(text) / max(len(textwrap.wrap(text, most)), 1))
    return textwrap.wrap(text, min(most, even + 12))


def finish(figure: Any, handles: Sequence[Any], caption: Sequence[str]) -> None:
    """Adds the legend at the bottom centre, as large as fits, and the caption below the legend."""
    height = figure.get_figheight()
    needed = sum(_HANDLE + _LETTER * len(handle.get_label()) for handle in handles)
    base = (0.16 * len(caption) + 0.12) / height
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, base),
        ncols=len(handles),
        frameon=False,
        fontsize=10 * min(1.0, figure.get_figwidth() / needed),
        handlelength=2.8,
        columnspacing=2.0,
    )
    figure.text(
        0.5,
        0.08 / height,
        "\n".join(caption),
        fontsize=8,
        color=GREY,
        ha="center",
        va="bottom",
        linespacing=1.35,
    )


def save(figure: Any, stem: str | os.PathLike[str], formats: Sequence[str]) -> list[pathlib.Path]:
    """Writes `stem`.png, .pdf or .svg; creates the folder if needed.

    Raises:
      ConfigError: a format is unknown.
    """
    import matplotlib

    check_formats(formats)
    paths = [pathlib.Path(f"{os.fspath(stem)}.{name}") for name in formats]
    for path, name in zip(paths, formats, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(_SETTINGS):
            figure.savefig(path, format=name, metadata=_METADATA[name])
    return paths


def svg_bytes(figure: Any) -> bytes:
    """The figure as an SVG file without external resources; letters are paths."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(file, format="svg", metadata=_METADATA["svg"])
    return file.getvalue()
