"""The mixture of training texts: shares, window boundaries, determinism, resume, bad input."""

import collections

import jax
import numpy as np
import pytest

from rsd_jax.distillation.data import documents, token_files
from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.data.corpus import SourceFile
from rsd_jax.distillation.data.mixture import Mixture, Source, check_weights
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training.train import train
from rsd_jax.errors import ConfigError
from rsd_jax.tasks.number_words import number_words_prompt
from tests import tiny

_WEIGHTS = {"library": 0.6, "docstrings": 0.2, "number_words": 0.2}
_COUNTS = {"train": 30, "heldout": 5}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Files of a small library, the documents cut from it, its tokenizer, the tokens on disk."""
    files = [
        SourceFile(
            f"module{i}.py",
            f'def add(argument):\n    """Return the argument plus {i}."""\n    return {i}\n',
        )
        for i in range(200)
    ]
    directory = tmp_path_factory.mktemp("corpus")
    tasks = documents.task_documents(files, _WEIGHTS, _COUNTS)
    texts = list(documents.tokenizer_texts(files, tasks, 10))
    tokenizer = bpe.train_tokenizer(texts, vocab_size=400)
    summary = documents.write_sources(files, tasks, tokenizer, directory)
    return files, tasks, tokenizer, directory, texts, summary


def test_sources_are_written_as_whole_documents(written):
    files, tasks, tokenizer, directory, texts, summary = written
    assert list(summary) == list(_WEIGHTS)
    for name in documents.TASK_SOURCES:
        for split in token_files.SPLITS:
            tokens = token_files.open_tokens(directory / name, split)
            assert summary[name][split]["tokens"] == len(tokens)
            assert summary[name][split]["documents"] == len(tasks[name][split])
            text = tokenizer.decode(list(tokens), skip_special_tokens=False)
            assert text == "".join(f"<s>{document}</s>" for document in tasks[name][split])
    held_out = [file for file in files if file.held_out]
    assert len(tasks["docstrings"]["heldout"]) == len(held_out) > 0
    assert len(tasks["docstrings"]["train"]) == len(files) - len(held_out)
    for split, examples in (("train", "train"), ("heldout", "test")):
        example = number_words_prompt(examples, 3)
        assert tasks["number_words"][split][3] == example.text + example.reference
    # The tokenizer sees a part of the tasks' training text and nothing that is held out.
    assert len(texts) == len(files) - len(held_out) + 20
    assert not set(texts) & {text for found in tasks.values() for text in found["heldout"]}
    assert "hundert" in tokenizer.get_vocab()


def test_prompts_and_answers_are_encoded_as_at_decoding(written):
    tokenizer = written[2]
    for index in range(20):
        example = number_words_prompt("train", index)
        apart = [
            tokenizer.encode(text, add_special_tokens=False).ids
            for text in (example.text, example.reference)
        ]
        together = tokenizer.encode(example.text + example.reference, add_special_tokens=False).ids
        assert apart[0] + apart[1] == together


def test_windows_have_their_shares_and_start_with_documents(written):
    directory = written[3]
    mixture = documents.open_mixture(directory, _WEIGHTS, "train")
    assert [source.name for source in mixture.sources] == list(_WEIGHTS)
    library, docstrings, number_words = mixture.sources
    assert library.starts is None
    length, seen = 300, collections.Counter()
    starts = {
        source.name: {
            tuple(source.windows(source.starts[i : i + 1], length).tokens[0])
            for i in range(len(source.starts))
        }
        for source in (docstrings, number_words)
    }
    drawn = collections.Counter()
    for step in range(200):
        batch = mixture.batch_at(seed=1, step=step, batch_size=8, length=length).tokens
        assert batch.shape == (8, 1 + length)
        assert batch.dtype == np.int32
        assert (batch[:, 0] == bpe.BOS_ID).all()
        counts = collections.Counter()
        for row in map(tuple, batch):
            name = next((name for name, known in starts.items() if row in known), "library")
            counts[name] += 1
            drawn[row] += name != "library"
        assert 4 <= counts["library"] <= 5
        assert 1 <= counts["docstrings"] <= 2
        assert 1 <= counts["number_words"] <= 2
        seen += counts
    for name, weight in _WEIGHTS.items():
        assert seen[name] / (200 * 8) == pytest.approx(weight, abs=0.02)
    # Every document opens a window now and then.
    assert sum(row in drawn for row in starts["number_words"]) == len(starts["number_words"])


def test_the_file_of_a_short_source_is_a_ring():
    tokens = np.asarray([0, 5, 1, 0, 6, 7, 1], np.uint16)
    source = Source("short", tokens, 1.0, np.asarray([0, 3]))
    windows = source.draw(np.random.default_rng(0), 20, 9).tokens
    rows = {(0, 5, 1, 0, 6, 7, 1, 0, 5, 1), (0, 6, 7, 1, 0, 5, 1, 0, 6, 7)}
    assert set(map(tuple, windows.tolist())) == rows
    assert set(map(tuple, source.spread(2, 9).tokens.tolist())) == rows


def test_batches_are_a_function_of_seed_and_step(written):
    def batch(seed, step):
        mixture = documents.open_mixture(written[3], _WEIGHTS, "train")
        return mixture.batch_at(seed=seed, step=step, batch_size=8, length=9).tokens

    np.testing.assert_array_equal(batch(3, 5), batch(3, 5))
    assert not np.array_equal(batch(3, 5), batch(3, 6))
    assert not np.array_equal(batch(3, 5), batch(4, 5))


def test_evaluation_windows_have_the_same_shares(written):
    mixture = documents.open_mixture(written[3], _WEIGHTS, "heldout")
    windows, again = (mixture.spread_windows(count=10, length=12).tokens for _ in range(2))
    np.testing.assert_array_equal(windows, again)
    assert windows.shape == (10, 13)
    for source, part in zip(mixture.sources, (windows[:6], windows[6:8], windows[8:]), strict=True):
        np.testing.assert_array_equal(part, source.spread(len(part), 12).tokens)


@pytest.mark.standard_promotion  # optax
def test_a_resumed_run_on_a_mixture_is_the_same_run(tmp_path):
    rng = np.random.default_rng(0)
    plain = rng.integers(2, 32, 200).astype(np.uint16)
    short = np.concatenate([[0, *rng.integers(2, 32, 4), 1] for _ in range(9)]).astype(np.uint16)
    starts = np.flatnonzero(short == 0)
    mixture = Mixture((Source("plain", plain, 1.0), Source("short", short, 1.0, starts)))
    recipe = TrainingSettings(steps=6, batch_size=3, window=6, warmup_steps=2, checkpoint_every=3)
    whole = train(tiny.TRAINED, recipe, mixture, tmp_path / "whole")
    train(tiny.TRAINED, recipe, mixture, tmp_path / "parts", stop_after=4)
    resumed = train(tiny.TRAINED, recipe, mixture, tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def test_bad_mixtures_are_named(written, tmp_path):
    files, _, tokenizer, directory, *_ = written
    assert check_weights({"docstrings": 1, "library": 3, "number_words": 0}, documents.SOURCES) == {
        "library": 3.0,
        "docstrings": 1.0,
    }
    with pytest.raises(ConfigError, match=r"no source 'wmt'.*'library'"):
        check_weights({"wmt": 1.0}, documents.SOURCES)
    for weight in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="of 'library' must be 0 or more"):
            check_weights({"library": weight}, documents.SOURCES)
    for weights in ({}, {"library": 0.0}):
        with pytest.raises(ConfigError, match="needs a positive weight"):
            check_weights(weights, documents.SOURCES)
    with pytest.raises(ConfigError, match="text stage"):
        documents.open_mixture(tmp_path, {"library": 1.0}, "train")
    empty = documents.task_documents(files, _WEIGHTS, {"train": 3, "heldout": 0})
    with pytest.raises(ConfigError, match=r"'number_words' has no documents.*'heldout'"):
        documents.write_sources(files, empty, tokenizer, tmp_path)
    assert list(documents.task_documents(files, {"library": 1, "docstrings": 0}, _COUNTS)) == []
    mixture = documents.open_mixture(directory, {"library": 1.0}, "train")
    with pytest.raises(ConfigError, match="fewer than one window"):
        mixture.batch_at(seed=0, step=0, batch_size=2, length=10**6)
