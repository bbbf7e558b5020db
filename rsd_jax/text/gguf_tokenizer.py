"""The tokenizer of transformers that the metadata of a GGUF file describe, built without torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.text.gguf_sentencepiece import ADVICE, KEY, sentencepiece

# Of SentencePiece in llama.cpp, where the metadata name no ids.
_SENTENCEPIECE_IDS = {"bos": 1, "eos": 2, "unknown": 0}
# Types of tokens, from llama.cpp.
_CONTROL, _USER_DEFINED = 3, 4
# By key of the metadata, the type of its value, and of each of several values.
_TYPES: dict[str, tuple[Any, Any]] = {
    "model": (str, str),
    "pre": (str, str),
    "tokens": (list | tuple, str),
    "merges": (list | tuple, str),
    "scores": (list | tuple, float | int),
    "token_type": (list | tuple, int),
    **{f"{name}_token_id": (int, int) for name in ("bos", "eos", "unknown", "padding")},
    **{f"add_{name}": (bool, bool) for name in ("bos_token", "eos_token", "space_prefix")},
}
# The splits of texts before byte-pair merges, as in the tokenizers' own tokenizer.json. Llama 3
# takes up to three digits as one piece, Qwen2 one digit.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _gpt2() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _words(digits: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS % digits), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


# By `tokenizer.ggml.pre`. "default" is not among them: converters write it where they do not know.
_SPLITS: dict[str, Callable[[], Any]] = {
    "gpt-2": _gpt2,
    "smollm": _smollm,
    "llama-bpe": lambda: _words("{1,3}"),
    "qwen2": lambda: _words(""),
}


def tokenizer_from_gguf(metadata: Mapping[str, Any], where: str) -> Any:
    """The tokenizer of a GGUF file, with its special tokens and chat template.

    Byte-level BPE (`tokenizer.ggml.model` "gpt2") or SentencePiece ("llama").

    Args:
      metadata: key-value pairs of the file.
      where: the file, for error messages.

    Returns:
      a fast tokenizer of transformers.

    Raises:
      ConfigError: the tokenizer is of a kind that is not known here.
      CheckpointError: the metadata contradict each other.
    """
    import transformers

    _check_types(metadata, where)
    tokens = metadata.get(f"{KEY}.tokens", ())
    if len(set(tokens)) != len(tokens):
        raise CheckpointError(
            f"{where} has {len(tokens)} tokens, {len(set(tokens))} of them different; {ADVICE}"
        )
    by_score = metadata.get(f"{KEY}.model") == "llama"
    read = sentencepiece if by_score else _byte_level
    tokenizer = read(metadata, tokens, where)
    _add_tokens(tokenizer, tokens, metadata.get(f"{KEY}.token_type", ()))
    ids = _SENTENCEPIECE_IDS if by_score else {}
    names = {
        f"{name}_token": _token(tokens, metadata.get(f"{KEY}.{key}_token_id", ids.get(key)), where)
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    adds_bos = by_score or metadata.get(f"{KEY}.pre") == "llama-bpe"
    added = {
        "bos": metadata.get(f"{KEY}.add_bos_token", adds_bos),
        "eos": metadata.get(f"{KEY}.add_eos_token", False),
    }
    _put_around(tokenizer, [names[f"{end}_token"] if added[end] else None for end in added])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **{name: token for name, token in names.items() if token is not None},
    )


def _check_types(metadata: Mapping[str, Any], where: str) -> None:
    """Checks that what is read below is of its type; errors as above."""
    for name, (whole, kind) in _TYPES.items():
        value = metadata.get(f"{KEY}.{name}")
        values = value if isinstance(value, list | tuple) else (value,)
        fits = isinstance(value, whole) and all(isinstance(each, kind) for each in values)
        if value is not None and not fits:
            raise CheckpointError(f"{where} has {KEY}.{name} of a wrong type; {ADVICE}")
    template = metadata.get("tokenizer.chat_template")
    if not isinstance(template, str | None):
        raise CheckpointError(f"{where} has a tokenizer.chat_template that is no text; {ADVICE}")


def _byte_level(metadata: Mapping[str, Any], tokens: Sequence[str], where: str) -> Tokenizer:
    """The tokenizer of byte-level BPE, without its special tokens; errors as above."""
    split = _known_split(metadata, where)
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get(f"{KEY}.merges", ())]
    if not merges:
        raise CheckpointError(f"{where} has {len(tokens)} tokens and 0 merges; {ADVICE}")
    pre = metadata[f"{KEY}.pre"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    try:
        # Llama 3 takes a piece that is a token as it is; merges would not always reach it.
        bpe = models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe")
    except Exception as error:  # the library raises bare exceptions
        raise CheckpointError(f"{where} has merges that cannot be used ({error})") from None
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = split()
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _known_split(metadata: Mapping[str, Any], where: str) -> Callable[[], Any]:
    """The split of texts; an error if the tokenizer is not known."""
    model, pre = (metadata.get(f"{KEY}.{key}") for key in ("model", "pre"))
    if model != "gpt2":
        raise ConfigError(
            f"{where} has {KEY}.model={model!r}; only 'gpt2', byte-level BPE, and 'llama', "
            f"SentencePiece, are supported. Otherwise {ADVICE}"
        )
    if pre not in _SPLITS:
        raise ConfigError(
            f"{where} has {KEY}.pre={pre!r}, which says how texts are split; supported: "
            f"{list(_SPLITS)}. Otherwise {ADVICE}"
        )
    return _SPLITS[pre]


def _add_tokens(tokenizer: Tokenizer, tokens: Sequence[str], types: Sequence[int]) -> None:
    """Names the tokens that stand for themselves in a text, never for a part of a word."""
    of_kind = {
        kind: [
            AddedToken(token, normalized=False, special=kind == _CONTROL)
            for token, found in zip(tokens, types, strict=False)
            if found == kind
        ]
        for kind in (_CONTROL, _USER_DEFINED)
    }
    tokenizer.add_special_tokens(of_kind[_CONTROL])
    tokenizer.add_tokens(of_kind[_USER_DEFINED])


def _token(tokens: Sequence[str], index: int | None, where: str) -> str | None:
    if index is None:
        return None
    if not 0 <= index < len(tokens):
        raise CheckpointError(f"{where} names the special token {index} of {len(tokens)} tokens")
    return tokens[index]


def _put_around(tokenizer: Tokenizer, ends: Sequence[str | None]) -> None:
    """Has the tokenizer put BOS in front of a text and EOS behind it, those that are not None."""
    first, last = ends
    pieces = [token for token in (first, "$A", last) if token is not None]
    if pieces == ["$A"]:
        return
    tokenizer.post_processor = processors.TemplateProcessing(
        single=pieces,
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ends if t is not None],
    )
