"""Tiny tokenizers of transformers, like those of published models; made here, not downloaded."""

import functools

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXTS = ["Hello there, user and assistant!", "system: answer briefly.", "Today Date: 26 Jul 2024"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{% endif %}"
)
# As Llama 3.2's: the date of today, unless it is given.
DATED = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = "
    "strftime_now('%d %b %Y') %}{% endif %}Today Date: {{ date_string }}\n" + CHATML
)


def wrapped(tokenizer: Tokenizer, **options):
    """As a tokenizer of transformers."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)


def _byte_level(specials: list[str]) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def chatml(**options):
    """Like SmolLM2's and Qwen's: a chat template, and nothing that is put in front of a text."""
    made = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return wrapped(made, **{"eos_token": "<|im_end|>", "chat_template": CHATML} | options)


def with_bos(**options):
    """Like Llama 3's: the tokenizer puts BOS in front, and so does the chat template."""
    made = _byte_level(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": DATED}
    return wrapped(made, **names | options)


@functools.cache
def llama_2():
    """Like Llama 2's, by size and special tokens, and without a chat template."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b"]
    tokens += [f"▁filler{i}" for i in range(32_000 - len(tokens))]
    made = Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True
        )
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return wrapped(made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def opt(**options):
    """Like OPT's: GPT-2's bytes, and one token that opens and ends a document, put in front."""
    made = _byte_level(["<unk>", "<pad>", "</s>"])
    made.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", 2)]
    )
    return wrapped(
        made, **{"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"} | options
    )
