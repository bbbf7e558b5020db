"""Tokens that two tokenizers share, whatever their ids and spelling."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import rsd_jax
from rsd_jax.text.shared_tokens import draft_ids
from tests import tiny_tokenizers

LINES = [*tiny_tokenizers.TEXTS, "größer als 東京, über 12345"] * 3


def _sentencepiece():
    """Like Llama 2's, trained; with a token of plain text that was added later."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{code:02X}>" for code in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=specials, show_progress=False)
    made.train_from_iterator(LINES, trainer)
    state = json.loads(made.to_str())
    state["added_tokens"] = state["added_tokens"][:3]  # bytes are ordinary tokens
    made = Tokenizer.from_str(json.dumps(state))
    made.add_tokens(["    "])
    return tiny_tokenizers.wrapped(made, bos_token="<s>", eos_token="</s>")


def _text(tokenizer, token: int) -> str:
    """The text of a token between two others, so that no space is stripped."""
    letter = tokenizer.convert_tokens_to_ids("a")
    return tokenizer.backend_tokenizer.decode([letter, token, letter], skip_special_tokens=False)


PAIRS = {
    "byte level to SentencePiece": (tiny_tokenizers.with_bos, _sentencepiece),
    "SentencePiece to byte level": (_sentencepiece, tiny_tokenizers.with_bos),
    "two of byte level": (tiny_tokenizers.chatml, tiny_tokenizers.with_bos),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_shared_tokens_have_the_same_text(pair):
    target, draft = (make() for make in PAIRS[pair])
    ids = draft_ids(target, draft, len(target), len(draft))
    shared = np.flatnonzero(ids >= 0)
    assert len(shared) >= 100
    roles = {target.bos_token_id, target.eos_token_id}
    for token in set(shared.tolist()) - roles:
        assert _text(target, token) == _text(draft, int(ids[token])), token
    assert ids[target.eos_token_id] == draft.eos_token_id
    spelled = {_text(draft, token) for token in range(len(draft))}
    for token in set(range(len(target))) - roles - set(shared.tolist()):
        text = _text(target, token)
        is_byte = target.convert_ids_to_tokens(token).startswith("<0x")
        assert text not in spelled or is_byte or "\ufffd" in text, (token, text)


def test_bytes_that_are_also_tokens():
    """SentencePiece spells an `a` as the token `a`: the byte <0x61> is neither fed nor drafted."""
    target, draft = tiny_tokenizers.with_bos(), _sentencepiece()
    ids = draft_ids(target, draft, len(target), len(draft))
    letter = target.convert_tokens_to_ids("a")
    assert ids[letter] == draft.convert_tokens_to_ids("a")
    back = draft_ids(draft, target, len(draft), len(target))
    assert back[draft.convert_tokens_to_ids("<0x61>")] == -1
    newline = draft.convert_tokens_to_ids("<0x0A>")
    assert back[newline] == target.convert_tokens_to_ids("Ċ")


def test_tables_shorter_than_the_tokenizer():
    target, draft = tiny_tokenizers.with_bos(), tiny_tokenizers.chatml()
    ids = draft_ids(target, draft, 200, 100)
    assert ids.shape == (200,)
    assert ids.max() < 100


def test_tokenizers_that_cannot_be_compared():
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    bytes_ = tiny_tokenizers.chatml()
    with pytest.raises(rsd_jax.ConfigError, match="another kind, with \\['Whitespace'\\]"):
        draft_ids(bytes_, tiny_tokenizers.wrapped(words), 300, 2)
    with pytest.raises(rsd_jax.ConfigError, match="use a fast tokenizer"):
        draft_ids(bytes_, object(), 300, 2)
    with pytest.raises(rsd_jax.ConfigError, match="no token in common"):
        draft_ids(bytes_, bytes_, 300, 0)
