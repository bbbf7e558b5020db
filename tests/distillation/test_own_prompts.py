"""A user's prompts for a target with a chat template, and a draft of another vocabulary."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from rsd_jax.distillation.data.tokenizer import copy_tokenizer
from rsd_jax.distillation.pipeline import STAGES, run_stage
from rsd_jax.distillation.settings import (
    DraftSettings,
    ModelSettings,
    PromptFiles,
    Settings,
    TrainingSettings,
)
from rsd_jax.distillation.workspace import Workspace
from rsd_jax.errors import ConfigError
from rsd_jax.models import pairs
from tests import tiny, tiny_tokenizers

_TEXT = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
_AROUND = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The directory of a target with SmolLM2's kind of tokenizer."""
    path = tmp_path_factory.mktemp("target")
    tiny_tokenizers.chatml().save_pretrained(path)
    return path


def _encoded(directory, tmp_path, lines, **options):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = PromptFiles(patterns=(str(path),), **options)
    settings = Settings(target_directory=str(directory), max_prompt_tokens=200, prompt_files=files)
    workspace = Workspace(settings, tmp_path / "work", tmp_path / "export")
    return list(workspace.own_prompts(files).values())


def _theirs(*messages, **options):
    return tiny_tokenizers.chatml().apply_chat_template(
        [{"role": role, "content": content} for role, content in messages],
        add_generation_prompt=True,
        return_dict=False,
        **options,
    )


def test_the_tokenizers_own_template(directory, tmp_path):
    talk = [("user", "Hello"), ("assistant", "there"), ("user", "Today?")]
    lines = [
        {"prompt": "Hello\n"},
        {"messages": [{"role": role, "content": content} for role, content in talk]},
        {"input_ids": [7, 8]},
        {"input_ids": [7, 8]},
    ]
    assert _encoded(directory, tmp_path, lines, template="chat") == [
        _theirs(("user", "Hello")),
        _theirs(*talk),
        [7, 8],
    ]
    options = {"system": "answer", "chat_template_kwargs": {"enable_thinking": False}}
    system = ("system", "answer")
    assert _encoded(directory, tmp_path, lines[:2], template="chat", **options) == [
        _theirs(system, ("user", "Hello"), enable_thinking=False),
        _theirs(system, *talk, enable_thinking=False),
    ]


def test_prompts_that_a_template_has_rendered_already(directory, tmp_path):
    """Special tokens are read where that is asked for, else a warning says so."""
    expected = _theirs(("user", "Hello"))
    rendered, bare = [{"prompt": _TEXT}], [{"prompt": "Hello"}]
    assert _encoded(directory, tmp_path, rendered, parse_special=True) == [expected]
    parsed = {"template": _AROUND, "parse_special": True}
    assert _encoded(directory, tmp_path, bare, **parsed) == [expected]
    with pytest.warns(UserWarning, match=r"1 of 1 prompts begin .*parse_special=True"):
        (spelled,) = _encoded(directory, tmp_path, rendered)
    assert len(spelled) > 2 * len(expected)
    with pytest.raises(ConfigError, match=r"the special token .* set template='chat'"):
        _encoded(directory, tmp_path, bare, template=_AROUND)
    with pytest.raises(ConfigError, match="system='a' needs template='chat'"):
        _encoded(directory, tmp_path, bare, system="a")
    with pytest.raises(ConfigError, match="needs template='chat', not 'plain'"):
        _encoded(directory, tmp_path, [{"messages": [{"role": "user", "content": "a"}]}])


def test_a_template_that_is_not_the_tokenizers_gets_a_warning(directory, tmp_path):
    bare = [{"prompt": "Hello"}]
    with pytest.warns(UserWarning, match=r"'\[INST\] \{prompt\} \[/INST\]' gives other tokens"):
        _encoded(directory, tmp_path, bare, template="[INST] {prompt} [/INST]")


def test_a_chat_template_that_refuses_one_message_does_not_stop_other_templates(tmp_path):
    refusing = tiny_tokenizers.chatml(chat_template="{{ raise_exception('no system message') }}")
    refusing.save_pretrained(tmp_path / "target")
    bare, text = [{"prompt": "Hello"}], "[INST] Hello [/INST]"
    (ids,) = _encoded(tmp_path / "target", tmp_path, bare, template="[INST] {prompt} [/INST]")
    assert ids == refusing(text).input_ids


def test_answers_that_are_all_empty_get_a_warning(directory, tmp_path):
    settings = Settings(target_directory=str(directory))
    workspace = Workspace(settings, tmp_path, tmp_path / "export")
    files = PromptFiles(template="[INST] {prompt} [/INST]")
    with pytest.warns(UserWarning, match=r"all 8 answers .*\[INST\].*of its own, template='chat'"):
        workspace.warn_if_empty(files, 8, 8, 4)
    workspace.warn_if_empty(files, 8, 9, 4)
    workspace.warn_if_empty(files, 8, 8, 1)


def test_all_files_of_a_tokenizer_go_along(directory, tmp_path):
    from transformers import AutoTokenizer

    source, copied = tmp_path / "source", tmp_path / "copied"
    shutil.copytree(directory, source)
    (source / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    (source / "model.safetensors").write_text("")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool.jinja").write_text("{{ messages }}")
    copied.mkdir()
    for _ in range(2):
        copy_tokenizer(source, copied)
    names = {path.relative_to(source) for path in source.rglob("*")}
    found = {path.relative_to(copied) for path in copied.rglob("*")}
    assert found == names - {pathlib.Path("model.safetensors")}
    shutil.rmtree(copied / "additional_chat_templates")
    assert AutoTokenizer.from_pretrained(copied).chat_template == tiny_tokenizers.CHATML


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["draft_warm_start", "draft"])
def test_a_draft_of_another_vocabulary_is_named_before_a_step(tmp_path, stage, name):
    config = dataclasses.replace(tiny.TRAINED.config, vocab_size=2048)
    recipe = TrainingSettings(steps=1)
    warm = ModelSettings(model=config, recipe=recipe)
    draft = DraftSettings(model=config, recipe=recipe, data={"text": 1.0}, stored_logits=False)
    sections = {"draft_warm_start": warm, "draft": draft}
    sections[name] = dataclasses.replace(sections[name], model=tiny.TRAINED.config)
    directory = pairs.shipped_pair_directory("quickstart") / "target"
    settings = Settings(target_directory=str(directory), **sections)
    workspace = Workspace(settings, tmp_path, tmp_path / "export")
    message = rf"target has vocab_size=2048, the {name} has 32; .*{name}\.model\.vocab_size to 2048"
    message = message.replace("target has", "target in .* has")
    with pytest.raises(ConfigError, match=message):
        run_stage(workspace, stage)
    assert not list(tmp_path.iterdir())
