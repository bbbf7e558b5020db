"""Cuts prompts from files: a prompt is a definition or a file head, its reference what follows."""

import re
from collections.abc import Sequence

from tokenizers import Tokenizer

from rsd_jax.distillation.data.corpus import SourceFile
from rsd_jax.tasks.prompts import Prompt

_DEFINITION = re.compile(r"^(?:    )?(?:async def|def|class) ", re.MULTILINE)
_PROMPT_TOKENS = (60, 160)
_REFERENCE_TOKENS = 128


def _cut(file: SourceFile, start: int, tokenizer: Tokenizer) -> Prompt | None:
    """The longest prompt of whole lines from `start`, or None if the text is too short."""
    encoded = tokenizer.encode(file.text[start : start + 4000], add_special_tokens=False)
    low, high = _PROMPT_TOKENS
    if len(encoded.ids) < high + _REFERENCE_TOKENS:
        return None
    # ASCII only, so that offsets in bytes and in characters agree.
    if not file.text[start : start + 4000].isascii():
        return None
    end = file.text.rfind("\n", start, start + encoded.offsets[high - 1][1]) + 1
    if end - start < encoded.offsets[low][1]:
        return None
    after = encoded.offsets[high + _REFERENCE_TOKENS - 1][1]
    line = file.text.count("\n", 0, start) + 1
    return Prompt(f"{file.name}:{line}", file.text[start:end], file.text[end : start + after])


def cut_prompts(
    files: Sequence[SourceFile],
    tokenizer: Tokenizer,
    *,
    count: int,
    per_file: int,
    held_out: bool = True,
) -> list[Prompt]:
    """At most `count` passages, at most `per_file` of each file and spread over the file.

    Files take turns, so that many files are used. A passage starts at a class, function or
    method, or at the head of its file. `held_out` chooses the split: held out or training.
    """
    passages = []
    for file in files:
        if file.held_out != held_out:
            continue
        starts = [0, *(match.start() for match in _DEFINITION.finditer(file.text))]
        cut = [p for p in (_cut(file, start, tokenizer) for start in starts) if p is not None]
        stride = max(1, -(-len(cut) // per_file))
        passages.append(cut[::stride][:per_file])
    turns = [p[turn] for turn in range(per_file) for p in passages if turn < len(p)]
    return turns[:count]
