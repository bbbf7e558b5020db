"""The text of an answer in pieces, each with the blocks and nodes that its tokens come from."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rsd_jax.records.blocks import BlockRecord
from rsd_jax.text.encoding import decode
from rsd_jax.text.streaming import TextStream


@dataclasses.dataclass(frozen=True)
class Source:
    """Where one token of an answer comes from.

    Attributes:
      token: its id.
      block: the number of its block.
      depth: of the accepted node; of an emitted token, the depth below the last accepted node.
      accepted: whether the draft proposed the token and the verifier accepted it; otherwise the
        target emitted it.
      draft_prob: the draft's probability of the token, None for one that the target emitted.
      target_prob: the target's probability of the token.
    """

    token: int
    block: int
    depth: int
    accepted: bool
    draft_prob: float | None
    target_prob: float


@dataclasses.dataclass(frozen=True)
class Piece:
    """Text that cannot be cut further: of one token, or of the tokens that share a character.

    Attributes:
      text: "" only for tokens at the end of an answer that have no text, such as an EOS.
      sources: of its tokens, at least one.
    """

    text: str
    sources: tuple[Source, ...]

    @property
    def accepted(self) -> bool:
        """Whether the draft proposed the token that completes the text."""
        return self.sources[-1].accepted


def sources_of(records: Sequence[BlockRecord]) -> list[Source]:
    """The sources of the tokens of an answer, or of the part that consecutive blocks gave."""
    found = []
    for record in records:
        every = [
            Source(
                token=int(record.tokens[node]),
                block=record.block,
                depth=int(record.depths[node]),
                accepted=True,
                draft_prob=float(record.draft_probs[node]),
                target_prob=float(record.target_probs[node]),
            )
            for node in record.path
        ]
        depth, prob = record.num_accepted + 1, record.emitted_prob
        every.append(Source(record.emitted, record.block, depth, False, None, prob))
        found += every[: record.kept]
    return found


class PieceStream:
    """The pieces of one answer while it grows; the text of all pieces is that of `TextStream`."""

    def __init__(self, tokenizer: Any):
        """`tokenizer`: of `transformers` or of `tokenizers`."""
        self._text = TextStream(tokenizer)
        self._waiting: list[Source] = []

    def add(self, records: Sequence[BlockRecord]) -> list[Piece]:
        """The pieces that new blocks complete."""
        found = []
        for source in sources_of(records):
            self._waiting.append(source)
            if text := self._text.add([source.token]):
                found.append(self._piece(text))
        return found

    def end(self) -> list[Piece]:
        """The rest: one piece if tokens are left, whose text may be "" or hold U+FFFD."""
        text = self._text.end()
        return [self._piece(text)] if self._waiting else []

    def _piece(self, text: str) -> Piece:
        sources, self._waiting = tuple(self._waiting), []
        return Piece(text, sources)


def pieces_of(tokenizer: Any, records: Sequence[BlockRecord]) -> list[Piece]:
    """The pieces of a whole answer; their texts together are exactly the decoded text.

    Args:
      tokenizer: of `transformers` or of `tokenizers`.
      records: all blocks of the answer, from `GenerateResult.block_records`.
    """
    stream = PieceStream(tokenizer)
    found = [*stream.add(records), *stream.end()]
    sources = sources_of(records)
    text = decode(tokenizer, [source.token for source in sources])
    if "".join(piece.text for piece in found) == text:
        return found
    return _by_prefixes(tokenizer, sources, text)


def _by_prefixes(tokenizer: Any, sources: Sequence[Source], text: str) -> list[Piece]:
    """Pieces where later tokens change the text of earlier ones: see `TextStream`.

    A piece ends where the text of the tokens so far is a start of the whole text. This decodes the
    answer once for every token.
    """
    found: list[Piece] = []
    first = told = 0
    for count in range(1, len(sources) + 1):
        so_far = decode(tokenizer, [source.token for source in sources[:count]])
        agree = _common_start(so_far, text) if count < len(sources) else len(text)
        if agree > told or count == len(sources):
            found.append(Piece(text[told:agree], tuple(sources[first:count])))
            first, told = count, agree
    return found


def _common_start(first: str, second: str) -> int:
    """The number of characters that two texts have in common at their start."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
