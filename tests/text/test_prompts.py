"""Prompts to token ids: texts, names of special tokens in texts, conversations; and back."""

import datetime
import json
import warnings

import pytest

import rsd_jax
from rsd_jax.errors import ConfigError
from rsd_jax.models.loading import load_tokenizer
from rsd_jax.tasks import get_task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.text.chat import CHAT_DATE, ChatOptions, Message
from rsd_jax.text.encoding import decode, first_difference
from rsd_jax.text.prompts import encode_prompts
from tests import tiny_tokenizers as tokenizers

_ONE = [{"role": "user", "content": "Hello  there!\n"}]
_SEVERAL = [
    {"role": "system", "content": "answer briefly"},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "there, <|im_end|> user"},
    {"role": "user", "content": "Today?"},
]


def _theirs(tokenizer, messages, **options) -> list[int]:
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, **options
    )


@pytest.mark.parametrize("make", [tokenizers.chatml, tokenizers.with_bos])
@pytest.mark.parametrize("messages", [_ONE, _SEVERAL], ids=["one", "several"])
def test_conversations_have_the_ids_of_transformers(make, messages):
    tokenizer = make()
    ours = encode_prompts(tokenizer, [messages, [Message(**m) for m in messages]])
    assert ours == [_theirs(tokenizer, messages, date_string="26 Jul 2024")] * 2
    assert ours[0].count(tokenizer.bos_token_id) == (make is tokenizers.with_bos)
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert ours[0].count(start) == len(messages) + 1
    plain = encode_prompts(tokenizer, ["Hello"])
    assert plain == [tokenizer("Hello").input_ids]
    assert (plain[0][0] == tokenizer.bos_token_id) == (make is tokenizers.with_bos)


def test_options_reach_the_template():
    tokenizer = tokenizers.chatml()
    options = ChatOptions(kwargs={"enable_thinking": False})
    (silent,) = encode_prompts(tokenizer, [_ONE], chat=options)
    assert silent == _theirs(tokenizer, _ONE, enable_thinking=False)
    assert silent != encode_prompts(tokenizer, [_ONE])[0]


def test_a_date_does_not_change_from_day_to_day():
    tokenizer = tokenizers.with_bos()
    for date in (CHAT_DATE, "2031-12-01"):
        (ids,) = encode_prompts(tokenizer, [_ONE], chat=ChatOptions(date=date))
        shown = datetime.date.fromisoformat(date).strftime("%d %b %Y")
        assert ids == _theirs(tokenizer, _ONE, date_string=shown)
        assert shown in tokenizer.decode(ids)
    bare = tokenizers.with_bos(
        chat_template="\n  {{ strftime_now('%-d %B %Y, %A') }} {{ strftime_now is defined }}\n"
    )
    text = "\n  26 July 2024, Friday True"
    assert encode_prompts(bare, [_ONE]) == [bare(text, add_special_tokens=False).input_ids]
    odd = tokenizers.with_bos(chat_template="{{ strftime_now('%c') }}")
    with pytest.raises(ConfigError, match="no date in the format %c"):
        encode_prompts(odd, [_ONE])
    with pytest.raises(ConfigError, match="chat_date='today' must be a date like '2024-07-26'"):
        ChatOptions(date="today")


def test_llama_2_has_its_format_without_a_template():
    tokenizer = tokenizers.llama_2()
    (ids,) = encode_prompts(tokenizer, [_SEVERAL])
    text = (
        "[INST] <<SYS>>\nanswer briefly\n<</SYS>>\n\nHello [/INST] there, <|im_end|> user "
        "</s><s>[INST] Today? [/INST]"
    )
    assert ids == tokenizer(text).input_ids
    assert [i for i in ids if i in (1, 2)] == [1, 2, 1]
    assert encode_prompts(tokenizer.backend_tokenizer, [_SEVERAL]) == [ids]


def test_a_missing_template_is_an_error():
    for tokenizer in (
        tokenizers.chatml(chat_template=None),
        tokenizers.with_bos(chat_template=None),
        tokenizers.chatml().backend_tokenizer,
    ):
        with pytest.raises(ConfigError, match=r"has no chat template.*add chat_template\.jinja"):
            encode_prompts(tokenizer, [_ONE])
    refusing = tokenizers.chatml(chat_template="{{ raise_exception('no system here') }}")
    with pytest.raises(ConfigError, match=r"refuses messages of .*'system'.*: no system here"):
        encode_prompts(refusing, [_SEVERAL])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "at least one message"),
        (["Hello"], "prompt 0: message 0 must be an object"),
        ([{"role": "user"}], r"message 0 has the keys \['role'\]"),
        ([{"role": "tool", "content": "a"}], "role='tool'"),
        ([{"role": "user", "content": ["a"]}], "a content of list"),
        ([*_ONE, *_ONE], r"the roles are \['user', 'user'\]"),
        (_SEVERAL[:3], "end with user"),
        (_SEVERAL[:1], "end with user"),
    ],
)
def test_bad_conversations_are_named(messages, message):
    with pytest.raises(ConfigError, match=message):
        encode_prompts(tokenizers.chatml(), [messages])


@pytest.mark.parametrize("bare", [False, True], ids=["transformers", "tokenizers"])
def test_names_of_special_tokens_in_a_text(bare):
    """Text by default, whatever was asked before; with `parse_special`, BOS stands there once."""
    tokenizer = tokenizers.with_bos()
    given = tokenizer.backend_tokenizer if bare else tokenizer
    texts = ["Hello </s> there", "<s>Hello", "<s>Hello </s> there", "<s><s>Hello"]
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"3 of 4 prompts begin .*'<s>' is read") as seen:
            plain = encode_prompts(given, texts)
        assert len(seen) == 1
        for ids, text in zip(plain, texts, strict=True):
            assert ids[0] == 0
            assert not {0, 1} & set(ids[1:])
            assert tokenizer.decode(ids[1:]) == text
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = encode_prompts(given, texts, parse_special=True)
        assert [ids.count(0) for ids in parsed] == [1, 1, 1, 2]
        assert [ids.count(1) for ids in parsed] == [1, 0, 1, 0]
        assert parsed[1] == encode_prompts(given, ["Hello"])[0]


@pytest.mark.parametrize("text", ["Hello", "a", "aa", "<|im_start|>Hello<|im_end|>"])
def test_nothing_is_dropped_where_a_tokenizer_puts_nothing_in_front(text):
    tokenizer = tokenizers.chatml()
    (ids,) = encode_prompts(tokenizer, [text], parse_special=True)
    assert ids == tokenizer(text).input_ids


def test_a_tokenizer_may_be_set_to_truncate():
    given = tokenizers.with_bos().backend_tokenizer
    (whole,) = encode_prompts(given, ["Hello there, user and assistant!"])
    given.enable_truncation(max_length=2)
    given.enable_padding(length=60)
    for parse_special in (False, True):
        texts = ["Hello there, user and assistant!"]
        assert encode_prompts(given, texts, parse_special=parse_special) == [whole]
        # The caller's own settings come back.
        assert given.truncation["max_length"] == 2
        assert given.padding["length"] == 60
        assert not given.encode_special_tokens


def test_the_prompts_of_a_task(tmp_path):
    """A chat template of the tokenizer, messages and token ids in JSONL."""
    from rsd_jax.evaluation.prompts import token_ids

    path = tmp_path / "own.jsonl"
    path.write_text(
        '{"prompt": " Hello\\n"}\n'
        '{"messages": [{"role": "system", "content": "answer"}, '
        '{"role": "user", "content": "Hello"}], "reference": "there"}\n'
        '{"input_ids": [5, 6], "name": "ids"}\n'
    )
    prompts = get_task("jsonl", path=path, template="chat").test_prompts(None)
    tokenizer = tokenizers.chatml()
    system = [{"role": "system", "content": "answer"}, {"role": "user", "content": "Hello"}]
    assert token_ids(prompts, tokenizer) == [
        _theirs(tokenizer, system[1:]),
        _theirs(tokenizer, system),
        [5, 6],
    ]
    assert [prompt.reference for prompt in prompts] == ["", " there", ""]
    for line, template, message in (
        ('{"messages": [{"role": "user", "content": "a"}]}', "plain", "needs template='chat'"),
        ('{"messages": "a"}', "chat", "messages must be a list"),
        ('{"prompt": "a", "input_ids": [1]}', "plain", r"\['prompt', 'input_ids'\].*one of them"),
        ('{"input_ids": [1.5]}', "plain", "'input_ids' is not a list of token ids"),
    ):
        path.write_text(line)
        with pytest.raises(ConfigError, match=message) as error:
            get_task("jsonl", path=path, template=template)
        assert f"{path}, line 1" in str(error.value)


def test_prompts_by_name_are_public():
    assert rsd_jax.encode_prompts is encode_prompts
    with pytest.raises(ConfigError, match="prompts is one text"):
        encode_prompts(tokenizers.chatml(), "Hello")
    assert Prompt("a", "b", "c").messages is None


class _OfVersion4:
    """Removes spaces before punctuation unless told not to, as transformers 4 does."""

    clean_up_tokenization_spaces = True

    def decode(self, ids, skip_special_tokens, clean_up_tokenization_spaces=None):
        assert skip_special_tokens
        clean = clean_up_tokenization_spaces
        if self.clean_up_tokenization_spaces if clean is None else clean:
            return "a, b."
        return "a , b ."


def test_spaces_of_an_answer_are_kept():
    from rsd_jax.evaluation.prompts import texts

    assert decode(_OfVersion4(), [1]) == "a , b ."
    assert texts(_OfVersion4(), [[1], [2]], (2,)) == ["a , b ."] * 2
    tokenizer = tokenizers.with_bos(clean_up_tokenization_spaces=True)
    text = "Hello , there ! do n't"
    (ids,) = encode_prompts(tokenizer, [text])
    assert decode(tokenizer, ids) == decode(tokenizer.backend_tokenizer, ids) == text


@pytest.mark.parametrize("make", [tokenizers.chatml, tokenizers.llama_2])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_streamed_text_is_the_whole_text(make, size):
    """Characters of several tokens come whole; special tokens are left out; rows are apart."""
    tokenizer = make()
    texts = ["東京 ü", "a b\u200d 👩\u200d🚀!  b", "", "b"]
    rows = [encode_prompts(tokenizer, [text])[0] for text in texts]
    rows[0] = [*rows[0], tokenizer.eos_token_id]
    cut = [
        (row, ids[i : i + size])
        for i in range(0, 60, size)
        for row, ids in enumerate(rows)
        if i < len(ids)
    ]
    pieces = list(rsd_jax.stream_text(tokenizer, cut))
    for row, ids in enumerate(rows):
        assert "".join(piece for which, piece in pieces if which == row) == decode(tokenizer, ids)
    assert not any("\ufffd" in piece or not piece for _, piece in pieces)
    if size == 1:
        assert len(pieces) > 10


def test_a_character_that_stays_unfinished_comes_last():
    tokenizer = tokenizers.chatml()
    ids = encode_prompts(tokenizer, ["a東"])[0][:-1]
    pieces = list(rsd_jax.stream_text(tokenizer, [(0, [token]) for token in ids]))
    assert pieces == [(0, "a"), (0, "\ufffd")]
    assert decode(tokenizer, ids) == "a\ufffd"


def test_tokenizers_are_compared_on_the_ids_that_both_have():
    first, second = tokenizers.chatml(), tokenizers.with_bos()
    assert first_difference(first, second) == (0, "<|endoftext|>", "<s>")
    second = tokenizers.chatml()
    second.add_tokens(["more"])
    assert first_difference(first, second) is None


def test_the_files_of_opt_put_bos_in_front(tmp_path):
    """OPT's tokenizer is GPT-2's files with `add_bos_token`; its BOS is also its EOS."""
    made = json.loads(tokenizers.opt().backend_tokenizer.to_str())["model"]
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>") | {"pad_token": "<pad>"}
    options = {"add_bos_token": True, "tokenizer_class": "GPT2Tokenizer"} | names
    merges = [" ".join(pair) for pair in made["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(made["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(options))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "opt"}))
    tokenizer = load_tokenizer(tmp_path)
    plain = tokenizers.opt()("Hello there").input_ids
    assert plain[0] == 2
    assert encode_prompts(tokenizer, ["Hello there"]) == [plain]
    parsed = encode_prompts(tokenizer, ["</s>Hello there"], parse_special=True)
    assert parsed == [plain]  # not put in front of a BOS that is there
