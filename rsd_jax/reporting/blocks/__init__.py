"""Pictures of decoded blocks, from `BlockRecord`s: a tree, a completion in a terminal, a page."""

from rsd_jax.reporting.blocks.completion import Piece, PieceStream, Source, pieces_of
from rsd_jax.reporting.blocks.html_page import completion_page
from rsd_jax.reporting.blocks.terminal import completion_text, legend_line, piece_text, wants_color
from rsd_jax.reporting.blocks.tree import block_figure

__all__ = [
    "Piece",
    "PieceStream",
    "Source",
    "block_figure",
    "completion_page",
    "completion_text",
    "legend_line",
    "piece_text",
    "pieces_of",
    "wants_color",
]
