"""`rsd generate` on the tiny pair: what it decodes, shows, and keeps."""

import dataclasses
import sys

import pytest

import rsd_jax
from rsd_jax.cli import choices, chosen, speaker
from rsd_jax.cli.main import parser
from rsd_jax.models.llama import LlamaModel
from rsd_jax.search.state import SearchState
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import tiny
from tests.cli.speaking import give, rsd, tiny_models

__all__ = ["tiny_models"]

pytestmark = pytest.mark.usefixtures("tiny_models")
_SHORT = ("--temperature", "0", "--max_new_tokens", "12")
_RSD = ("--method", "rsd_s", "--tree", "3x2")


def _expected(pair, text, **options):
    """The text of `generate` by autoregressive decoding."""
    prompts = rsd_jax.encode_prompts(pair.tokenizer, [text])
    result = rsd_jax.generate(
        tiny.method("ar"),
        pair.target,
        None,
        prompts,
        max_new_tokens=12,
        eos_id=pair.eos_ids,
        **{"temperature": 0.0} | options,
    )
    return pair.tokenizer.decode(result.tokens[0])


@pytest.mark.parametrize("method", [("--method", "ar"), _RSD], ids=["ar", "rsd_s"])
@pytest.mark.parametrize("show", ["text", "accepted"])
def test_the_text_is_that_of_generate(method, show, tiny_models, capsys):
    code, out, err = rsd(
        capsys, "generate", "--prompt", "two men", *_SHORT, *method, "--show", show
    )
    expected = _expected(tiny_models, "two men")
    assert code == 0
    assert expected
    assert out.removesuffix("\n") == expected.removesuffix("\n")
    assert err.startswith("12 tokens")
    assert ("drafted and accepted" in err) == (show == "accepted")
    assert "tokens/s" in err


def test_colours_are_there_if_wanted(capsys):
    given = ("generate", "--prompt", "two men", *_SHORT, *_RSD, "--show", "accepted", "--quiet")
    code, colored, err = rsd(capsys, *given, "--color", "always")
    assert (code, err) == (0, "")
    assert "\x1b[" in colored
    assert "\x1b[" not in rsd(capsys, *given)[1]


@pytest.mark.parametrize("how", ["flag", "file", "pipe", "dash"])
def test_the_prompt_comes_from_where_it_is(how, tiny_models, capsys, monkeypatch, tmp_path):
    text = "two men\n"
    path = tmp_path / "prompt.txt"
    path.write_text(text)
    give(monkeypatch, text)
    flags = {
        "flag": ["--prompt", text],
        "file": ["--prompt_file", path],
        "dash": ["--prompt_file", "-"],
    }
    _, out, _ = rsd(capsys, "generate", *flags.get(how, []), *_SHORT, "--method", "ar")
    assert out.removesuffix("\n") == _expected(tiny_models, text).removesuffix("\n")


def test_a_message_goes_through_the_chat_template(tiny_models, capsys):
    given = ("--chat", "--system", "be brief", *_SHORT, "--method", "ar")
    _, out, _ = rsd(capsys, "generate", "--prompt", " two men \n", *given)
    expected = _expected(tiny_models, "be brief\ntwo men\n")
    assert out.removesuffix("\n") == expected.removesuffix("\n")


def test_sampling_is_passed_on(tiny_models, capsys):
    given = ("--method", "ar", "--max_new_tokens", "12", "--temperature", "1", "--seed", "7")
    shown = {}
    for name, flags in {"all": (), "top": ("--top_k", "3", "--top_p", "0.9")}.items():
        _, out, _ = rsd(capsys, "generate", "--prompt", "two men", *given, *flags)
        options = {"top_k": 3, "top_p": 0.9} if name == "top" else {}
        expected = _expected(tiny_models, "two men", temperature=1.0, seed=7, **options)
        assert out.removesuffix("\n") == expected.removesuffix("\n")
        shown[name] = out
    assert shown["all"] != shown["top"]


@pytest.mark.parametrize(
    ("data", "names"),
    [(b"", "no prompt"), (b" \n", "no prompt"), (b"a\xff", "not UTF-8 (invalid start byte at")],
)
def test_standard_input_without_a_prompt(data, names, capsys, monkeypatch):
    give(monkeypatch, data)
    code, _, err = rsd(capsys, "generate")
    assert code == 2
    assert names in err


def test_an_empty_file_is_named(capsys, tmp_path):
    path = tmp_path / "empty.txt"
    path.touch()
    code, _, err = rsd(capsys, "generate", "--prompt_file", path)
    assert code == 2
    assert f"--prompt_file={path} is blank" in err


def test_a_prompt_that_is_too_long(capsys):
    code, out, err = rsd(capsys, "generate", "--prompt", "a" * 600, "--method", "ar")
    assert (code, out) == (2, "")
    assert err.startswith("error: prompt 0 has 600 tokens; with max_new_tokens=128 that exceeds")
    assert err.count("\n") == 1


def test_ctrl_c_keeps_the_text(capsys, monkeypatch):
    def stopped(*arguments, **options):
        yield 0, [2, 3]
        raise KeyboardInterrupt

    monkeypatch.setattr(speaker, "stream", stopped)
    code, out, err = rsd(capsys, "generate", "--prompt", "two men", "--method", "ar")
    assert (code, out) == (130, "ab\n")
    assert err == "interrupted; 2 tokens were decoded, their text stands above\n"


def test_ctrl_c_before_the_first_token(capsys, monkeypatch):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(speaker, "stream", stopped)
    said = rsd(capsys, "generate", "--prompt", "two men", "--method", "ar")
    assert said == (130, "", "interrupted; nothing was decoded yet\n")


def test_control_characters_do_not_reach_a_terminal(tiny_models, capsys, monkeypatch):
    def streamed(*arguments, **options):
        yield 0, [2]

    monkeypatch.setattr(speaker, "stream", streamed)
    monkeypatch.setattr(tiny_models.tokenizer, "decode", lambda ids, **_: "\x1b[2J" * len(ids))
    given = ("generate", "--prompt", "two men", "--method", "ar", "--quiet")
    assert rsd(capsys, *given)[1] == "\x1b[2J\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert rsd(capsys, *given)[1] == "␛[2J\n"


class TestMethod:
    """Which method the flags name."""

    def _method(self, *arguments):
        return chosen.method_of(parser().parse_args(["generate", *arguments]))

    def test_a_pair_with_a_draft_gets_a_tree(self):
        assert (self._method().name, self._method().tree) == ("rsd_s", "4x4")
        own = ("--target", "x", "--draft", "y")
        assert self._method(*own).name == "rsd_s"
        found = self._method("--pair", "smollm2")
        assert (found.name, found.tree) == choices.DEFAULT_OF_PAIR["smollm2"]
        other_draft = self._method("--pair", "smollm2", "--draft", "somewhere")
        assert (other_draft.name, other_draft.tree) == choices.DEFAULT

    def test_a_target_alone_is_decoded_by_itself(self):
        assert self._method("--target", "x").name == "ar"

    def test_options_and_shared_options(self):
        options = ("--option", "length=3", "--option", "counts=1,2,2,3")
        found = self._method("--method", "swift", *options, "--draft_top_k", "5")
        assert found == rsd_jax.build_method("swift", length=3, counts=(1, 2, 2, 3), draft_top_k=5)
        found = self._method("--method", "self_rsd_c", "--verifier", "coupling")
        assert (found.tree, found.verifier_name) == ("2-2-1-1", "coupling")


def test_skip_sets(tmp_path):
    config = dataclasses.replace(TINY_CONFIG, num_layers=4)
    target = rsd_jax.LoadedModel(LlamaModel(config), tiny_params(0, config))
    pair = rsd_jax.LoadedPair(target, None, None)
    assert chosen.skips_of(None, pair) is None
    found = chosen.skips_of("0110", pair)
    assert found.tolist() == [[False, False], [False, True], [True, False], [False, False]]
    with pytest.raises(rsd_jax.ConfigError, match="has 2 digits, but the target has 4 layers"):
        chosen.skips_of("01", pair)
    with pytest.raises(rsd_jax.ConfigError, match="cannot read the search"):
        chosen.skips_of(str(tmp_path / "none.json"), pair)
    state = SearchState.new(target)
    state.save(tmp_path / "search.json")
    assert chosen.skips_of(str(tmp_path / "search.json"), pair).tolist() == state.skips.tolist()
