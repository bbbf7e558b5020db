"""A completion as a page of HTML: one file, no script, nothing fetched."""

import html
import re
from collections.abc import Sequence

from rsd_jax.reporting.blocks.completion import Piece, Source

# Tints of the colours of the tree. Emitted text also has a line below, clear of underscores. A
# white line on the left sets tokens apart.
_STYLE = """
body { font: 15px/1.6 sans-serif; color: #1a1a1a; background: #fff; max-width: 60em;
  margin: 2em auto; padding: 0 1em; }
pre { font: 14px/1.7 monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  border: 1px solid #ccc; padding: 1em; }
.prompt { color: #555; }
.accepted { background: #cfe3f3; }
.emitted { background: #ffe0bd; border-bottom: 2px solid #e06500; }
pre .accepted, pre .emitted { border-left: 1px solid #fff; }
"""
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def _escaped(text: str) -> str:
    """Text for HTML; a character that HTML does not allow becomes U+FFFD."""
    allowed = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
    return html.escape(allowed).replace("\r", "&#13;")  # a plain one would become a newline


def _words(source: Source) -> str:
    """One token in words."""
    if source.accepted:
        what = f"depth {source.depth}, accepted, draft {source.draft_prob:.3f}"
    else:
        what = f"depth {source.depth}, emitted by the target"
    return f"block {source.block}, {what}, target {source.target_prob:.3f}"


def _span(piece: Piece) -> str:
    kind = "accepted" if piece.accepted else "emitted"
    title = "\n".join(map(_words, piece.sources))
    return f'<span class="{kind}" title="{html.escape(title)}">{_escaped(piece.text)}</span>'


def completion_page(
    pieces: Sequence[Piece], *, title: str = "A completion, block by block", prompt: str = ""
) -> str:
    """A page with the coloured text of an answer.

    The title of each piece of text, shown while the pointer rests on it, says for every token of
    the piece its block, its depth, and its probabilities.

    Args:
      pieces: from `pieces_of`.
      title: heading of the page.
      prompt: shown in grey before the answer.
    """
    sources = [source for piece in pieces for source in piece.sources]
    accepted = sum(source.accepted for source in sources)
    blocks = len({source.block for source in sources})
    legend = (
        f'<span class="accepted">drafted and accepted</span>: {accepted} tokens; '
        f'<span class="emitted">emitted by the target</span>: {len(sources) - accepted}; '
        f"blocks: {blocks}"
    )
    spans = "".join(map(_span, pieces))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{_escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_escaped(title)}</h1>\n<p>{legend}</p>\n"
        f'<pre><span class="prompt">{_escaped(prompt)}</span>{spans}</pre>\n'
        "</body>\n</html>\n"
    )
