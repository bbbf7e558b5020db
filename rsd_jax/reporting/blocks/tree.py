"""The tree of one block as a figure."""

import dataclasses
import math
from typing import Any

from rsd_jax.records.blocks import BlockRecord
from rsd_jax.reporting import figures as base
from rsd_jax.reporting.blocks.labels import label, token_text
from rsd_jax.reporting.blocks.layout import EMITTED, Layout, layout_of

_COLUMN, _LINE = 1.55, 0.52  # inches
_BOX = (1.16, 0.4)
_EDGE = 0.3  # room at the sides
_LEAST_WIDTH = 6.4  # so that legend and caption fit


@dataclasses.dataclass(frozen=True)
class _Look:
    """How a kind of nodes is drawn: colours, and the width of lines."""

    name: str
    edge: str
    face: str
    text: str
    width: float
    dashes: str = "-"


# The blue and the orange of `figures.STYLES`, which differ for all kinds of colour vision; lines
# differ too.
_ACCEPTED = _Look("drafted and accepted", "#1f77b4", "#dbe9f6", "#0b2e4a", 2.2)
_OTHER = _Look("drafted, not accepted", "#a6a6a6", "#f5f5f5", "#6b6b6b", 0.9)
_EMITTED = _Look("emitted by the target", "#e06500", "#fff0e0", "#5a2a00", 2.2, "--")
_ROOT = _Look("last token before the block", "#333333", "#ffffff", "#333333", 1.4)
_LOOKS = (_ROOT, _ACCEPTED, _OTHER, _EMITTED)


def block_figure(record: BlockRecord, tokenizer: Any = None, *, caption: str = "") -> Any:
    """Draws the tree of one block from left to right.

    Each box holds the text of a token and, below it, the probabilities of the draft (q) and of the
    target (p), given the parent. Siblings stand in draw order from top to bottom, the token that
    the target emitted below them.

    Args:
      record: from `generate` or `stream` with `record_blocks=True`.
      tokenizer: of `transformers` or of `tokenizers`; without one, boxes hold token ids.
      caption: text below the figure, above what every figure says about its block.

    Returns:
      a figure of matplotlib, for `rsd_jax.reporting.figures.save`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout = layout_of(record)
    width = max(_COLUMN * (layout.columns - 1) + _BOX[0] + 2 * _EDGE, _LEAST_WIDTH)
    lines = [line for text in _caption(record, caption) for line in base.wrapped(text, width)]
    below, tall = 0.62 + 0.16 * len(lines), _LINE * layout.lines + 2 * 0.1
    figure = Figure(figsize=(width, tall + below), dpi=150)
    FigureCanvasAgg(figure)
    share = below / (tall + below)
    axes: Any = figure.add_axes((0, share, 1, 1 - share))
    axes.set_axis_off()
    # Units are inches, from the upper left.
    axes.set_xlim(0, width)
    axes.set_ylim(tall, 0)
    on_path = {int(slot) for slot in record.path}
    shift = (width - _COLUMN * (layout.columns - 1)) / 2
    for slot in sorted(layout.places, key=lambda slot: (slot in on_path, slot == EMITTED)):
        look = _look(slot, on_path)
        if slot in layout.parents:
            _draw_edge(axes, layout, slot, look, shift)
        _draw_node(axes, layout, slot, look, shift, _texts(record, tokenizer, slot))
    base.finish(figure, [_handle(look) for look in _LOOKS], lines)
    return figure


def _look(slot: int, on_path: set[int]) -> _Look:
    if slot == EMITTED:
        return _EMITTED
    if slot == 0:
        return _ROOT
    return _ACCEPTED if slot in on_path else _OTHER


def _center(layout: Layout, slot: int, shift: float) -> tuple[float, float]:
    column, line = layout.places[slot]
    return shift + _COLUMN * column, 0.1 + _LINE * (line + 0.5)


def _draw_edge(axes: Any, layout: Layout, slot: int, look: _Look, shift: float) -> None:
    """A curve from the right side of the parent to the left side of the node."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (x, y), (to_x, to_y) = (_center(layout, s, shift) for s in (layout.parents[slot], slot))
    x, to_x = x + _BOX[0] / 2, to_x - _BOX[0] / 2
    middle = (x + to_x) / 2
    codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    path = Path([(x, y), (middle, y), (middle, to_y), (to_x, to_y)], codes)
    order = 1 if look is _OTHER else 2
    axes.add_patch(
        PathPatch(path, fc="none", ec=look.edge, lw=look.width, ls=look.dashes, zorder=order)
    )


def _draw_node(
    axes: Any, layout: Layout, slot: int, look: _Look, shift: float, texts: tuple[str, str]
) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = _center(layout, slot, shift)
    wide, high = _BOX
    axes.add_patch(
        FancyBboxPatch(
            (x - wide / 2, y - high / 2),
            wide,
            high,
            boxstyle="round,pad=0,rounding_size=0.07",
            fc=look.face,
            ec=look.edge,
            lw=look.width,
            ls=look.dashes,
            zorder=3,
        )
    )
    text, numbers = texts
    bold = "normal" if look is _OTHER else "bold"
    options = {"ha": "center", "va": "center", "color": look.text, "zorder": 4}
    options |= {"parse_math": False, "family": "DejaVu Sans"}
    lift = 0.075 if numbers else 0.0
    axes.text(x, y - lift, text, fontsize=_size(text, bold), fontweight=bold, **options)
    axes.text(x, y + 0.1, numbers, fontsize=6.8, **options)


def _size(text: str, weight: str) -> float:
    """The font size in points at which a text fits into a box: 9 if possible."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(family="DejaVu Sans", weight=weight, size=9)
    points, *_ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return 9 * min(1.0, 72 * (_BOX[0] - 0.12) / max(points, 1.0))


def _texts(record: BlockRecord, tokenizer: Any, slot: int) -> tuple[str, str]:
    """The two lines of a box."""
    if slot == EMITTED:
        before = [int(record.tokens[node]) for node in (0, *record.path)]
        text = token_text(tokenizer, before, record.emitted)
        return label(text), f"p {_number(record.emitted_prob)}"
    before, node = [], int(record.parents[slot])
    while node >= 0:
        before, node = [int(record.tokens[node]), *before], int(record.parents[node])
    text = label(token_text(tokenizer, before, int(record.tokens[slot])))
    if slot == 0:
        return text, ""
    draft, target = (float(probs[slot]) for probs in (record.draft_probs, record.target_probs))
    return text, f"q {_number(draft)}  p {_number(target)}"


def _number(probability: float) -> str:
    """Two digits; what would round to 0 or 1 says so."""
    if math.isnan(probability):
        return "?"
    if 0 < probability < 0.005:
        return "<.01"
    if 0.995 <= probability < 1:
        return ">.99"
    return f"{probability:.2f}".removeprefix("0")


def _handle(look: _Look) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=look.edge, lw=look.width, ls=look.dashes, label=look.name)


def _caption(record: BlockRecord, caption: str) -> list[str]:
    """What is below the figure, each entry on lines of its own: the caller's words come first."""
    counted = f"{record.num_accepted} of {int(record.valid.sum()) - 1} drafted tokens accepted"
    block = f"Block {record.block}: {counted}, then one emitted."
    if record.kept < record.num_accepted + 1:
        block += f" The answer ends with token {record.kept} of the block."
    known = "q: the draft's probability, p: the target's, given the parent."
    parents = record.parents[record.valid][1:]
    drawn = {name for name in record.drawn if name}
    if len(drawn) == 1 and len(set(parents.tolist())) < len(parents):
        known += f" Siblings: {_SIBLINGS[drawn.pop()]}."
    return [*([caption] if caption else []), block, known]


_SIBLINGS = {
    "iid": "drawn independently",
    "without_replacement": "drawn without replacement, from top to bottom",
    "point": "proposed with certainty",
    "likeliest": "the draft's likeliest tokens",
}
