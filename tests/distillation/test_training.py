"""Training: losses against numpy, exact resume, bad losses, the corpus split, the tokenizer."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.distillation import losses
from rsd_jax.distillation.data import corpus, token_files
from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.evaluate import evaluate
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training.checkpoints import Checkpoints
from rsd_jax.distillation.training.optimizer import learning_rate
from rsd_jax.distillation.training.step import init_state
from rsd_jax.distillation.training.train import train
from rsd_jax.errors import CheckpointError, ConfigError, NonFiniteLossError
from rsd_jax.models.llama import LlamaModel
from rsd_jax.records.json_objects import build
from rsd_jax.tasks.prompts import load_prompts
from tests import tiny

pytestmark = pytest.mark.standard_promotion  # optax

_MODEL = tiny.TRAINED
# One recipe for most tests, so that they share the compiled step.
_RECIPE = TrainingSettings(
    objective="forward_kl",
    optimizer="muon",
    steps=60,
    batch_size=2,
    window=6,
    warmup_steps=2,
    learning_rate=1e-2,
    log_every=1,
    checkpoint_every=25,
)
_TEXT = np.random.default_rng(0).integers(2, 32, 200).astype(np.uint16)


@pytest.fixture(scope="module")
def teacher():
    return _MODEL, _MODEL.init_params(jax.random.key(7))


def _rows(directory: pathlib.Path, key: str) -> list:
    rows = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row[key]) for row in rows if key in row]


def test_schedules():
    """Both rise linearly to the peak; "wsd" stays there until the last quarter."""
    values = {}
    for schedule in ("cosine", "wsd"):
        recipe = TrainingSettings(steps=100, warmup_steps=10, learning_rate=1.0, schedule=schedule)
        values[schedule] = [float(learning_rate(recipe)(step)) for step in (5, 10, 75, 80, 100)]
    np.testing.assert_allclose(values["wsd"], [0.5, 1.0, 1.0, 0.81, 0.05], rtol=1e-6)
    assert values["cosine"][:2] == pytest.approx([0.5, 1.0])
    assert 0.05 < values["cosine"][2] < 0.5
    assert values["cosine"][-1] == pytest.approx(0.05)


def test_losses_agree_with_numpy():
    rng = np.random.default_rng(1)
    target, draft = rng.normal(size=(2, 3, 5, 7)).astype(np.float32) * 3
    labels = rng.integers(0, 7, (3, 5)).astype(np.int32)

    def law(logits):
        weights = np.exp(logits.astype(np.float64))
        return weights / weights.sum(-1, keepdims=True)

    p, q = law(target), law(draft)
    expected = -np.log(np.take_along_axis(q, labels[..., None], -1)[..., 0])
    np.testing.assert_allclose(losses.cross_entropy(draft, labels), expected, rtol=1e-5)
    expected = (p * np.log(p / q)).sum(-1)
    np.testing.assert_allclose(losses.forward_kl(target, draft), expected, rtol=1e-4)
    for t in (1.0, 0.3):
        expected = np.minimum(law(target / t), law(draft / t)).sum(-1)
        got = losses.expected_acceptance(target, draft, temperature=t)
        np.testing.assert_allclose(got, expected, rtol=1e-4)
    np.testing.assert_allclose(losses.forward_kl(target, target), 0.0, atol=1e-6)
    np.testing.assert_allclose(losses.expected_acceptance(draft, draft), 1.0, rtol=1e-6)


def test_a_resumed_run_is_the_same_run(tmp_path, teacher):
    whole = train(_MODEL, _RECIPE, _TEXT, tmp_path / "whole", teacher=teacher)
    train(_MODEL, _RECIPE, _TEXT, tmp_path / "parts", teacher=teacher, stop_after=31)
    # As if killed between a log row and the next checkpoint: the row is written again.
    with (tmp_path / "parts/metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 32, "loss": 0.0}) + "\n")
    resumed = train(_MODEL, _RECIPE, _TEXT, tmp_path / "parts", teacher=teacher)
    expected = _rows(tmp_path / "whole", "loss")
    assert [step for step, _ in expected] == list(range(1, _RECIPE.steps + 1))
    assert _rows(tmp_path / "parts", "loss") == expected
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert int(resumed.step) == _RECIPE.steps


def test_distillation_brings_the_draft_to_the_target(tmp_path, teacher):
    windows = corpus.spread_windows(_TEXT, count=8, length=6)

    def measure(params):
        return evaluate(_MODEL, params, windows, teacher=teacher)

    train(_MODEL, _RECIPE, _TEXT, tmp_path, teacher=teacher, evaluate=measure)
    steps, measured = zip(*_rows(tmp_path, "heldout"), strict=True)
    assert steps == (25, 50, 60)
    start = measure(_MODEL.init_params(jax.random.key(_RECIPE.seed)))
    assert measured[-1]["forward_kl"] < start["forward_kl"]
    assert measured[-1]["acceptance_t1"] > start["acceptance_t1"]
    assert measure(teacher[1])["acceptance_t0.3"] == pytest.approx(1.0, abs=1e-5)


def test_nan_stops_with_the_step_and_keeps_the_checkpoint(tmp_path, teacher):
    # The state of step 4 with a NaN in it: the next step, number 4 from 0, must say so.
    params = dict(_MODEL.init_params(jax.random.key(0)))
    params["norm"] = jax.tree.map(lambda leaf: leaf * jnp.nan, params["norm"])
    state = init_state(params, _RECIPE).replace(step=jnp.asarray(4, jnp.int32))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(4, state)
    checkpoints.close()
    with pytest.raises(NonFiniteLossError, match=r"step 4 has loss nan.*checkpoint 4") as caught:
        train(_MODEL, _RECIPE, _TEXT, tmp_path, teacher=teacher)
    assert caught.value.step == 4
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest_step() == 4
    checkpoints.close()


def test_a_checkpoint_of_another_model_is_named(tmp_path, teacher):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, init_state(_MODEL.init_params(jax.random.key(0)), _RECIPE))
    checkpoints.close()
    wider = dataclasses.replace(_MODEL.config, hidden_size=24)
    with pytest.raises(CheckpointError, match="another workdir"):
        train(LlamaModel(wider), _RECIPE, _TEXT, tmp_path, teacher=teacher)


def test_recipe_errors(tmp_path):
    with pytest.raises(ConfigError, match="unknown field 'learning_rat'"):
        build(TrainingSettings, {"steps": 3, "learning_rat": 1.0})
    with pytest.raises(ConfigError, match="'steps' is missing"):
        build(TrainingSettings, {})
    with pytest.raises(ConfigError, match="objective='mse'"):
        TrainingSettings(steps=1, objective="mse")
    with pytest.raises(ConfigError, match="needs a teacher"):
        train(_MODEL, _RECIPE, _TEXT, tmp_path)


def test_batches_are_a_function_of_seed_and_step():
    def batch(seed, step):
        return corpus.batch_at(_TEXT, seed=seed, step=step, batch_size=4, length=9)

    np.testing.assert_array_equal(batch(3, 5), batch(3, 5))
    assert not np.array_equal(batch(3, 5), batch(3, 6))
    assert not np.array_equal(batch(3, 5), batch(4, 5))
    assert batch(3, 5).shape == (4, 10)
    assert (batch(3, 5)[:, 0] == bpe.BOS_ID).all()
    with pytest.raises(ConfigError, match="fewer than one window"):
        corpus.batch_at(_TEXT[:5], seed=0, step=0, batch_size=1, length=9)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A small library: 300 files, some of them of the kinds that are left out."""
    root = tmp_path_factory.mktemp("library")
    for i in range(300):
        path = root / f"package{i % 7}" / f"module{i}.py"
        path.parent.mkdir(exist_ok=True)
        docstring = f'"""Return the argument plus {i}."""'
        path.write_text(
            f"def function_{i}(argument):\n    {docstring}\n    return argument + {i}\n"
        )
    for folder in ("site-packages", "test"):
        (root / folder).mkdir()
        (root / folder / "other.py").write_text("skipped = True\n")
    (root / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1"))
    return root


def test_split_is_deterministic_and_disjoint(library, tmp_path):
    files = corpus.read_files(library)
    assert files == corpus.read_files(library)
    assert len(files) == 300
    held_out = {file.name for file in files if file.held_out}
    assert 3 <= len(held_out) <= 30
    # The names decide: these two must never change, or old models would have seen the prompts.
    assert corpus.is_held_out("turtle.py")
    assert not corpus.is_held_out("os.py")

    tokenizer = bpe.train_tokenizer((file.text for file in files), vocab_size=300)
    summary = corpus.write_tokens(files, tokenizer, tmp_path)
    assert summary["heldout"]["files"] == len(held_out)
    for split in token_files.SPLITS:
        tokens = token_files.open_tokens(tmp_path, split)
        assert tokens.dtype == np.uint16
        assert len(tokens) == summary[split]["tokens"]
        documents = tokenizer.decode(list(tokens), skip_special_tokens=False).split("</s>")
        chosen = [file for file in files if file.held_out == (split == "heldout")]
        assert documents == [*("<s>" + file.text for file in chosen), ""]
    with pytest.raises(ConfigError, match="no Python source"):
        corpus.read_files(tmp_path)


def test_tokenizer_round_trip(library, tmp_path):
    from transformers import AutoTokenizer

    texts = [file.text for file in corpus.read_files(library)]
    bpe.save_tokenizer(bpe.train_tokenizer(texts, vocab_size=300), tmp_path, max_length=64)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (bpe.BOS_ID, bpe.EOS_ID)
    assert len(tokenizer) == 300
    text = "def f(x):\n\treturn '\u00e9\U0001f600'  \n\n"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == bpe.BOS_ID
    assert bpe.BOS_ID not in ids[1:]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.decode([*ids, bpe.EOS_ID]) == f"<s>{text}</s>"
    assert bpe.load_tokenizer(tmp_path).encode(text).ids == ids
    with pytest.raises(ConfigError, match="vocab_size=100"):
        bpe.train_tokenizer(texts, vocab_size=100)
    with pytest.raises(ConfigError, match="text stage"):
        bpe.load_tokenizer(tmp_path / "missing")


def test_shipped_prompts_are_held_out(tmp_path):
    prompts = load_prompts()
    assert len(prompts) >= 32
    assert len({prompt.name for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert corpus.is_held_out(prompt.name.rpartition(":")[0])
        assert prompt.text.endswith("\n")
        assert len(prompt.reference) > 100
    broken = tmp_path / "prompts.jsonl"
    broken.write_text('{"name": "a", "text": "b"}\n')
    with pytest.raises(ConfigError, match="line 1"):
        load_prompts(broken)
    with pytest.raises(ConfigError, match="no prompt file"):
        load_prompts(tmp_path / "missing.jsonl")
