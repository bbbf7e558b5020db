"""Configurations are read once, into checked dataclasses; errors name the key."""

import dataclasses
import importlib.util
import json

import pytest

from rsd_jax.distillation.settings import Settings
from rsd_jax.errors import ConfigError
from rsd_jax.models.checkpoint import save_model
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import ROOT


def _config(name):
    path = ROOT / f"configs/distill/{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def test_the_vocabulary_of_a_draft_may_be_the_targets(tmp_path):
    save_model(tmp_path, TINY_CONFIG, tiny_params(0))
    values = _config("any_llama").to_dict() | {"target_directory": str(tmp_path)}
    settings = Settings.from_config(values)
    assert settings.draft.model.vocab_size == TINY_CONFIG.vocab_size
    assert settings.draft_warm_start.model == settings.draft.model
    assert values["draft"]["model"]["vocab_size"] is None
    with pytest.raises(ConfigError, match="vocab_size is None, which means the target's: set targ"):
        Settings.from_config(values | {"target_directory": ""})
    with pytest.raises(ConfigError, match="tokenizer='x' is for a trained target"):
        Settings(tokenizer="x")


@pytest.mark.parametrize("name", ["quickstart", "llama2_115m", "any_llama"])
def test_stages_have_models_of_their_own(name):
    """An override of one model does not change another."""
    config = _config(name)
    before = config.draft_warm_start.model.num_layers
    config.draft.model.num_layers = 7
    assert config.draft_warm_start.model.num_layers == before


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
        ("draft.recipe.eval_batch_size", 0, r"draft\.recipe\.eval_batch_size"),
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
