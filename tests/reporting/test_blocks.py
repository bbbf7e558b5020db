"""Pictures of decoded blocks: trees, and completions in a terminal and as a page."""

import dataclasses
import html.parser
import io
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from rsd_jax.records.blocks import BlockRecord
from rsd_jax.reporting import figures
from rsd_jax.reporting.blocks import (
    PieceStream,
    block_figure,
    completion_page,
    completion_text,
    legend_line,
    pieces_of,
    wants_color,
)
from rsd_jax.reporting.blocks.labels import label, token_text
from rsd_jax.reporting.blocks.layout import EMITTED, layout_of
from rsd_jax.text.encoding import decode
from rsd_jax.text.prompts import encode_prompts
from tests import tiny_tokenizers

ESCAPE = "\x1b["


def record(parents, path, *, tokens=None, emitted=7, **changes) -> BlockRecord:
    """A block with a tree of these parents, whose accepted nodes are `path`."""
    parents = np.asarray([-1, *parents], np.int32)
    depths = np.zeros(len(parents), np.int32)
    for node, parent in enumerate(parents[1:], start=1):
        depths[node] = depths[parent] + 1
    probs = np.linspace(0.001, 1.0, len(parents), dtype=np.float32)
    probs[0] = np.nan
    values = {
        "block": 0,
        "start": 0,
        "kept": len(path) + 1,
        "tokens": np.arange(len(parents), dtype=np.int32) if tokens is None else tokens,
        "parents": parents,
        "depths": depths,
        "valid": np.ones(len(parents), bool),
        "drawn": ("", *["without_replacement"] * (len(parents) - 1)),
        "draft_probs": probs,
        "drawn_probs": probs,
        "target_probs": probs / 2,
        "path": np.asarray(path, np.int32),
        "emitted": emitted,
        "emitted_prob": 0.25,
    }
    return BlockRecord(**values | changes)


def answer(ids, accepted=2, **changes) -> list[BlockRecord]:
    """Blocks of a chain whose answers together are these ids; the last one is cut if need be."""
    blocks, step = [], accepted + 1
    for start in range(0, len(ids), step):
        own = [*ids[start : start + step]]
        kept = len(own)
        own += [0] * (step - kept)
        blocks.append(
            record(
                range(accepted),
                range(1, accepted + 1),
                tokens=np.asarray([0, *own[:-1]], np.int32),
                emitted=own[-1],
                block=len(blocks),
                start=start,
                kept=kept,
                **changes,
            )
        )
    return blocks


def _beam(width, depth):
    """Parents of a beam: every node of a level hangs on one of the first two above it."""
    parents = [0] * width
    for level in range(1, depth):
        first = 1 + (level - 1) * width
        parents += [first + (place // 2) % width for place in range(width)]
    return parents


SHAPES = {
    "sd 4": ([0, 1, 2, 3], [1, 2]),
    "all of sd 4": ([0, 1, 2, 3], [1, 2, 3, 4]),
    "rsd_c 2-2-1-1": ([0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10], [2, 6]),
    "rsd_s 4x4": (_beam(4, 4), [1, 5, 9]),
    "rsd_s 6x5": (_beam(6, 5), []),
    "ar": ([], []),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_do_not_overlap(shape):
    layout = layout_of(record(*SHAPES[shape]))
    assert len(layout.places) == len(SHAPES[shape][0]) + 2
    columns = {}
    for slot, (column, line) in layout.places.items():
        assert all(abs(line - other) >= 1 for other in columns.setdefault(column, [])), slot
        columns[column].append(line)
        assert 0 <= line <= layout.lines - 1
        if slot in layout.parents:
            assert layout.places[layout.parents[slot]][0] == column - 1
    path = SHAPES[shape][1]
    assert layout.places[EMITTED][0] == len(path) + 1
    assert layout.parents[EMITTED] == (path[-1] if path else 0)
    siblings = [line for slot, (_, line) in layout.places.items() if layout.parents.get(slot) == 0]
    assert siblings[:-1] == sorted(siblings[:-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_letters_stay_in_their_boxes(shape):
    """The labels of every picture lie inside the boxes, with wide letters too."""
    one = record(*SHAPES[shape])
    figure = block_figure(one, _Wide(), caption="A caption.")
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = [p.get_window_extent() for p in axes.patches if type(p).__name__ == "FancyBboxPatch"]
    assert len(boxes) == len(one.tokens) + 1
    for text in axes.texts:
        if text.get_text():
            inside = text.get_window_extent()
            assert any(
                box.x0 <= inside.x0
                and inside.x1 <= box.x1
                and box.y0 <= inside.y0
                and inside.y1 <= box.y1
                for box in boxes
            ), text.get_text()
    words = figure.texts[-1].get_text()
    assert words.startswith("A caption.\nBlock 0: ")
    assert ("without replacement" in words) == shape.startswith("rsd")


class _Wide:
    """Decodes every token to more wide letters than a box holds."""

    def decode(self, ids, **_options):
        return "W" * 20 * len(ids)


def test_empty_slots_are_not_drawn(tmp_path):
    full = record([0, 0, 1, 1], [1])
    valid = np.asarray([True, True, True, False, False])
    layout = layout_of(dataclasses.replace(full, valid=valid))
    assert sorted(layout.places) == [EMITTED, 0, 1, 2]
    paths = figures.save(block_figure(full), tmp_path / "block", ("svg", "png"))
    first = paths[0].read_bytes()
    xml.etree.ElementTree.fromstring(first)
    figures.save(block_figure(full), tmp_path / "block", ("svg",))
    assert paths[0].read_bytes() == first, "the same record gives the same bytes"


def test_a_cut_block_says_where_the_answer_ends():
    words = block_figure(record([0, 1], [1, 2], kept=1)).texts[-1].get_text().replace("\n", " ")
    assert "2 of 2 drafted tokens accepted" in words
    assert "The answer ends with token 1 of the block." in words


def test_labels_show_spaces_and_strange_letters():
    assert label(" the") == "\N{OPEN BOX}the"
    assert label("\n\t\\") == "\\n\\t\\\\"
    assert label("$x^2$") == "$x^2$"
    assert label("東\x1b") == "\\u6771\\u001b"
    assert label("a" * 12) == "a" * 12
    assert label("a" * 13) == "a" * 11 + "\N{HORIZONTAL ELLIPSIS}"
    llama, chatml = tiny_tokenizers.llama_2(), tiny_tokenizers.chatml()
    (ids,) = encode_prompts(llama, ["b a"])
    assert token_text(llama, ids[:2], ids[-2]) == " "
    assert token_text(llama, [], llama.eos_token_id) == "</s>"
    (ids,) = encode_prompts(llama, ["東"])
    assert token_text(llama, ids[:1], ids[-1]) == "<0xB1>"
    for tokenizer in (chatml, chatml.backend_tokenizer):
        (ids,) = encode_prompts(tokenizer, ["a b"])
        assert token_text(tokenizer, ids[:1], ids[1]).startswith(" ")
    assert token_text(None, [1], 17) == "17"


TEXTS = ["東京 ü\n  x", "a b\u200d 👩\u200d🚀!  b", "<b>&amp;</b>\r\n\x1b[31m \x00", "b"]


@pytest.mark.parametrize("make", [tiny_tokenizers.chatml, tiny_tokenizers.llama_2])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("accepted", [0, 2])
def test_pieces_are_the_decoded_text(make, text, accepted):
    tokenizer = make()
    ids = [*encode_prompts(tokenizer, [text])[0], tokenizer.eos_token_id]
    blocks = answer(ids, accepted)
    pieces = pieces_of(tokenizer, blocks)
    assert "".join(piece.text for piece in pieces) == decode(tokenizer, ids)
    assert [source.token for piece in pieces for source in piece.sources] == ids
    assert all(piece.text for piece in pieces[:-1])
    stream = PieceStream(tokenizer)
    grown = [piece for block in blocks for piece in stream.add([block])]
    assert [*grown, *stream.end()] == pieces
    kinds = [source.accepted for piece in pieces for source in piece.sources]
    assert kinds == [place % (accepted + 1) < accepted for place in range(len(ids))]
    depths = [source.depth for piece in pieces for source in piece.sources]
    assert depths == [1 + place % (accepted + 1) for place in range(len(ids))]


def test_bytes_that_are_no_text_join_too():
    """With byte fallback, later bytes change what earlier ones were decoded to."""
    tokenizer = tiny_tokenizers.llama_2()
    (ids,) = encode_prompts(tokenizer, ["a üb"])
    broken = [*ids[:-1], tokenizer.convert_tokens_to_ids("<0xFF>"), ids[-1], ids[-1]]
    pieces = pieces_of(tokenizer, answer(broken))
    text = decode(tokenizer, broken)
    assert "".join(piece.text for piece in pieces) == text
    stream = PieceStream(tokenizer)
    grown = [*stream.add(answer(broken)), *stream.end()]
    assert "".join(piece.text for piece in grown) != text, "this text needs no other way"
    assert text.endswith("\ufffdbb")
    assert [source.token for piece in pieces for source in piece.sources] == broken
    assert [piece.text for piece in pieces[-2:]] == ["b", "b"]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colors_need_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(_Terminal())
    assert not wants_color(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_color(_Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    assert wants_color(_Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(_Terminal())


def _pieces(text):
    tokenizer = tiny_tokenizers.chatml()
    (ids,) = encode_prompts(tokenizer, [text])
    return pieces_of(tokenizer, answer(ids)), decode(tokenizer, ids)


def test_a_terminal_shows_the_text_and_a_legend():
    pieces, text = _pieces("one\n two, three")
    plain = completion_text(pieces, color=False)
    shown, _, legend = plain.rpartition("\n\n")
    assert shown == text
    assert ESCAPE not in plain
    count = sum(len(piece.sources) for piece in pieces)
    accepted = sum(source.accepted for piece in pieces for source in piece.sources)
    blocks = -(-count // 3)
    assert (
        legend
        == legend_line(pieces, color=False)
        == (
            f"{count} tokens in {blocks} blocks: {accepted} drafted and accepted, "
            f"{count - accepted} emitted by the target"
        )
    )
    colored = completion_text(pieces, color=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == plain
    assert len(set(re.findall(r"\x1b\[[\d;]+m", colored))) == 3
    assert all(line.count(ESCAPE) % 2 == 0 for line in colored.split("\n"))


def test_a_text_cannot_command_the_terminal():
    pieces, text = _pieces("a\x1b[2J\r\x9bb\x7f")
    for color in (False, True):
        shown = re.sub(r"\x1b\[[\d;]*m", "", completion_text(pieces, color=color))
        assert shown.startswith("a␛[2J␍\ufffdb␡\n")
    assert "\x1b[2J" in text


class _Page(html.parser.HTMLParser):
    """Collects the text of the answer, the titles and the tags of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.titles, self.text, self.kind = set(), [], "", None

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        assert not {"src", "href", "onclick"} & set(given)
        self.kind = given.get("class") if "title" in given else None
        self.titles += [given["title"]] if "title" in given else []

    def handle_endtag(self, tag):
        self.kind = None

    def handle_data(self, data):
        self.text += data if self.kind else ""


@pytest.mark.parametrize("text", ["東京 ü\n  x", '<script>alert("1")</script>&lt;\r\n', "\n\n a"])
def test_a_page_holds_exactly_the_text(text):
    pieces, decoded = _pieces(text)
    written = completion_page(pieces, title="<i>", prompt="</pre><b>")
    page = _Page()
    page.feed(written)
    page.close()
    assert page.text == decoded
    assert not {"script", "i", "b", "link", "img"} & page.tags
    assert "http" not in written
    first = pieces[0].sources[0]
    assert page.titles[0].startswith(f"block 0, depth 1, accepted, draft {first.draft_prob:.3f}")
    assert len(page.titles) == len(pieces)
    assert sum(title.count("\n") + 1 for title in page.titles) == sum(
        len(piece.sources) for piece in pieces
    )
    assert "emitted by the target, target 0.250" in "".join(page.titles)


def test_characters_that_a_page_may_not_hold():
    pieces, _ = _pieces("a\x00\x1b")
    assert "a\ufffd\ufffd" in re.sub(r"<[^>]*>", "", completion_page(pieces))
