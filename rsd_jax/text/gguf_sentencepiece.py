"""The SentencePiece tokenizer (byte-pair merges by score) that a GGUF file describes.

Source: Kudo and Richardson 2018 (arXiv 1808.06226), and llama.cpp, which puts a space in front of a
text and behind every special token, as the tokenizer.json of Llama 2 does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers

from rsd_jax.errors import CheckpointError, ConfigError

SPACE = "▁"
KEY = "tokenizer.ggml"
ADVICE = (
    "give the tokenizer of the model that was converted: tokenizer=load_tokenizer(DIR), or "
    "`tokenizer` of a configuration, with the directory of its tokenizer files"
)
# Types of tokens that a text is merged to: normal and user-defined.
_PIECES = (1, 4)


def sentencepiece(metadata: Mapping[str, Any], tokens: Sequence[str], where: str) -> Tokenizer:
    """The tokenizer of the metadata, without its special tokens.

    Args:
      metadata: key-value pairs of the file.
      tokens: the vocabulary, in the order of its ids.
      where: the file, for error messages.

    Raises:
      ConfigError: the metadata ask for a normalisation of texts.
      CheckpointError: there is not one score and one type for each token.
    """
    for key in ("precompiled_charsmap", "remove_extra_whitespaces"):
        if metadata.get(f"{KEY}.{key}"):
            raise ConfigError(f"{where} has {KEY}.{key}, which is not supported; {ADVICE}")
    scores, types = (metadata.get(f"{KEY}.{name}", ()) for name in ("scores", "token_type"))
    if not len(scores) == len(types) == len(tokens):
        raise CheckpointError(
            f"{where} has {len(tokens)} tokens, {len(scores)} scores and {len(types)} types of "
            f"tokens; {ADVICE}"
        )
    vocabulary = {token: i for i, token in enumerate(tokens)}
    unknown = metadata.get(f"{KEY}.unknown_token_id", 0)
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            _merges(vocabulary, scores, types),
            unk_token=tokens[unknown] if unknown < len(tokens) else None,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces: list[Any] = [normalizers.Replace(" ", SPACE)]
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get(f"{KEY}.add_space_prefix", True):
        spaces.insert(0, normalizers.Prepend(SPACE))
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _merges(
    vocabulary: Mapping[str, int], scores: Sequence[float], types: Sequence[int]
) -> list[tuple[str, str]]:
    """The pairs that become a token, those of higher scores first.

    A special token or a byte is never made of other pieces: the name of one in a text is text.
    """
    found = []
    for token, index in vocabulary.items():
        if types[index] not in _PIECES:
            continue
        for place in range(1, len(token)):
            left, right = token[:place], token[place:]
            if left in vocabulary and right in vocabulary:
                found.append((-scores[index], index, place, left, right))
    return [(left, right) for *_, left, right in sorted(found)]
