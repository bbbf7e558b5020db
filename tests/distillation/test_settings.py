"""Configurations are read once, into checked dataclasses; errors name the key."""

import dataclasses
import importlib.util
import json

import pytest

from rsd_jax.distillation.settings import Settings
from rsd_jax.errors import ConfigError
from tests import ROOT


def _config(name):
    path = ROOT / f"configs/distill/{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.mark.parametrize("name", ["quickstart", "llama2_115m"])
def test_settings_are_what_the_configuration_says(name):
    config = _config(name)
    settings = Settings.from_config(config)
    assert Settings.from_config(json.loads(json.dumps(config.to_dict()))) == settings
    # What the manifest of responses covers: every key, with its value, and the end tokens.
    responses = dataclasses.asdict(settings.responses)
    assert responses.pop("eos_ids") == ()
    assert responses == config.responses.to_dict()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("draft.recipe.steps", 0, r"draft\.recipe\.steps=0"),
        ("draft.recipe.step", 1, r"unknown field 'draft\.recipe\.step'"),
        ("draft.model.num_layers", 2.5, r"'draft\.model\.num_layers' is 2\.5"),
        ("draft.stored_logits", "no", r"'draft\.stored_logits' is 'no'"),
        ("draft.data", {"text": 1.0}, r"draft\.stored_logits needs windows"),
        ("draft.on_policy.fraction", 2.0, r"draft\.on_policy\.fraction=2\.0"),
        ("skipping.recipe.weight_decay", 0.1, r"skipping\.recipe\.weight_decay=0\.1"),
        ("responses.temperatures", (), r"responses\.temperatures is empty"),
        ("responses.eos_ids", (), r"responses\.eos_ids is empty"),
        ("draft.on_policy.eos_ids", [], r"draft\.on_policy\.eos_ids is empty"),
        ("decode.batch_size", 0, r"decode\.batch_size=0"),
        ("decode.methods", {"sd": {"name": "sd"}}, r"decode\.methods\.sd: .*missing options"),
        ("method", {"name": "ars"}, "method: unknown method 'ars'"),
    ],
)
def test_errors_name_the_key(path, value, message):
    values = _config("quickstart").to_dict()
    *sections, key = path.split(".")
    section = values
    for name in sections:
        section = section[name]
    section[key] = value
    with pytest.raises(ConfigError, match=message):
        Settings.from_config(values)


def test_a_stage_without_its_section_says_so():
    with pytest.raises(ConfigError, match=r"no `losses`; see configs/distill/quickstart\.py"):
        Settings().section("losses")
