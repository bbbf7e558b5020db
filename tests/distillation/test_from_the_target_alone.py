"""A draft from nothing but its target: prompts and responses of the target, frequent tokens."""

import dataclasses
import json
import math
import shutil
import tarfile

import jax
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.processes import read
from rsd_jax.core.vocabulary import OnMappedTokens
from rsd_jax.distillation.data.corpus import is_held_out
from rsd_jax.distillation.data.template_prompts import template_prompts
from rsd_jax.distillation.evaluate_stored import evaluate_stored
from rsd_jax.distillation.losses import expected_acceptance, forward_kl
from rsd_jax.distillation.packed import read_packed
from rsd_jax.distillation.packed_training import train_packed
from rsd_jax.distillation.pipeline import STAGES, run_stage
from rsd_jax.distillation.report import report
from rsd_jax.distillation.responses.reading import read_sequences
from rsd_jax.distillation.responses.self_prompts import read_self_prompts
from rsd_jax.distillation.settings import (
    DecodeSettings,
    DraftSettings,
    FollowUps,
    LayerDropoutSettings,
    PromptFiles,
    ResponseSettings,
    SelfPrompts,
    Settings,
    TrainingSettings,
)
from rsd_jax.distillation.stages import layer_dropout, training
from rsd_jax.distillation.stages.follow_ups import _answered
from rsd_jax.distillation.stages.pack import pack
from rsd_jax.distillation.table_start import table_of
from rsd_jax.distillation.training.step import as_batch
from rsd_jax.distillation.workspace import Workspace
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.checkpoint import save_model
from rsd_jax.models.families import FAMILIES
from rsd_jax.models.loading import build_model, load_model
from rsd_jax.models.token_map import TOKEN_MAP, TokenMap, read_token_map
from rsd_jax.records.lock import sole_writer
from rsd_jax.text.prompts import encode_prompts, user_frame, user_messages
from tests import parity, tiny, tiny_tokenizers

pytestmark = pytest.mark.standard_promotion  # optax

_END = 2  # <|im_end|>
_KNOWN = 120
_RAW = dict(
    model_type="qwen2",
    vocab_size=340,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=24,
    num_key_value_heads=1,
    bos_token_id=None,
    eos_token_id=_END,
)


def _write_target(folder):
    """A tiny target with random weights."""
    config = FAMILIES["qwen2"].read_config(_RAW)
    params = parity.random_params(build_model(config, dtype="float32"))
    save_model(folder, config, params, dtype="float32")
    tiny_tokenizers.chatml().save_pretrained(folder)


def _settings(root, **changes):
    model = dataclasses.replace(tiny.TRAINED.config, vocab_size=_KNOWN)
    recipe = TrainingSettings(
        objective="forward_kl",
        steps=2,
        batch_size=2,
        window=96,
        warmup_steps=1,
        eval_windows=2,
        eval_batch_size=2,
    )
    settings = Settings(
        target_directory=str(root / "target"),
        self_prompts=SelfPrompts(
            count=512, max_new_tokens=24, temperatures=(3.0,), batch_size=64, prompts_per_shard=256
        ),
        max_prompt_tokens=80,
        responses=ResponseSettings(
            max_new_tokens=16, temperatures=(3.0,), batch_size=64, top_logprobs=4
        ),
        frequent_tokens=_KNOWN,
        template_prompts=2,
        draft=DraftSettings(
            model=model,
            recipe=recipe,
            data={"responses": 1.0},
            stored_logits=True,
            table_from_target=True,
        ),
        decode=DecodeSettings(
            methods={"sd_2": {"name": "sd", "length": 2}},
            prompts={},
            prompt_files=PromptFiles(patterns=(str(root / "test.jsonl"),), template="chat"),
            scored={},
            max_new_tokens=6,
            temperature=0.0,
            batch_size=2,
            seed=0,
            self_prompts=1,
        ),
    )
    return dataclasses.replace(settings, **changes)


def _workspace(root, **changes):
    return Workspace(_settings(root, **changes), root / "work", root / "export")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The work directory after all stages."""
    with jax.numpy_dtype_promotion("standard"):  # optax
        root = tmp_path_factory.mktemp("alone")
        _write_target(root / "target")
        (root / "test.jsonl").write_text('{"prompt": "Hello there"}\n{"prompt": "user"}\n')
        workspace = _workspace(root)
        with pytest.raises(ConfigError, match=r"run the stage 'vocabulary' first"):
            _ = workspace.token_map
        for stage in STAGES:
            run_stage(workspace, stage)
        return workspace


def test_the_target_writes_the_prompts(made):
    tokenizer = made.chat_tokenizer
    opening, end = user_frame(tokenizer)
    assert (tokenizer.decode(opening), end) == ("<|im_start|>user\n", _END)
    opening, _ = user_frame(tokenizer, system="Be brief.")
    assert tokenizer.decode(opening).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    told = read_self_prompts(made.root / "self_prompts", tokenizer, max_tokens=80, system="x")
    assert tokenizer.decode(next(iter(told.values()))).startswith("<|im_start|>system\nx<|im_end|>")
    prompts = read_self_prompts(made.root / "self_prompts", tokenizer, max_tokens=80)
    assert 10 < len(prompts) < 512  # Some messages have no end.
    texts = []
    for ids in prompts.values():
        text = tokenizer.decode(ids)
        assert text.startswith("<|im_start|>user\n")
        assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
        texts.append(text[len("<|im_start|>user\n") : -len("<|im_end|>\n<|im_start|>assistant\n")])
        message = [{"role": "user", "content": texts[-1]}]
        assert encode_prompts(tokenizer, [message]) == [ids]
    assert len(set(texts)) == len(texts)
    # The responses answer these prompts and those of the templates, unless they are too long.
    names = json.loads((made.root / "responses" / "manifest.json").read_text())["settings"]
    filled = [user_messages(text, None) for text in template_prompts(2)]
    short = [ids for ids in encode_prompts(tokenizer, filled) if len(ids) <= 80]
    assert names["prompts"]["count"] == len(prompts) + len(short)
    with pytest.raises(ConfigError, match="no message that ended within 3 tokens"):
        read_self_prompts(made.root / "self_prompts", tokenizer, max_tokens=3)


def test_the_draft_starts_from_the_targets_table(made):
    start = training.start_of_draft(made, made.recipe("draft"))()
    table = read(table_of(made.target.params))
    known = made.token_map.target_ids >= 0
    rows, own = np.asarray(table_of(start))[known], table[made.token_map.target_ids[known]]
    scale = np.square(rows).sum() / np.square(own).sum()
    np.testing.assert_allclose(rows @ rows.T, scale * (own @ own.T), atol=1e-5)
    with pytest.raises(ConfigError, match=r"draft\.table_from_target would replace"):
        dataclasses.replace(
            made.settings, draft_warm_start=made.settings.draft, frequent_tokens=None
        )


def test_the_user_of_a_template_must_end_with_a_special_token(made):
    ends_with_text = "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
    tokenizer = tiny_tokenizers.chatml(chat_template=ends_with_text)
    with pytest.raises(ConfigError, match=r"ends the message of the user with ' \[/INST\]'"):
        user_frame(tokenizer)
    with pytest.raises(ConfigError, match="has no chat template"):
        user_frame(tiny_tokenizers.chatml(chat_template=None))
    with pytest.raises(ConfigError, match="self_prompts: leave out eos_ids"):
        SelfPrompts(count=1, max_new_tokens=1, eos_ids=(1,))


def test_the_draft_knows_the_frequent_tokens(made):
    source = made.target_responses(split="train")
    counts = np.bincount(source.tokens[source.is_response], minlength=340)
    ids = made.token_map.target_ids
    assert (len(ids), ids[0]) == (_KNOWN, -1)
    assert _END in ids
    known = np.isin(np.arange(340), ids)
    others = np.delete(known, _END), np.delete(counts, _END)
    assert others[1][others[0]].min() >= others[1][~others[0]].max()
    run_stage(made, "vocabulary")  # Again, with the same result.
    found = json.loads((made.root / "vocabulary.json").read_text())
    assert found["tokens"] == _KNOWN - 1
    assert found["share_of_text"] == pytest.approx(counts[known].sum() / counts.sum())
    other = dataclasses.replace(made.token_map, target_ids=np.roll(ids, 1))
    other.save(made.root)
    with pytest.raises(ConfigError, match="holds other tokens than these responses give"):
        run_stage(made, "vocabulary")
    made.token_map.save(made.root)
    with sole_writer(made.root), pytest.raises(ConfigError, match="is writing to"):
        run_stage(made, "vocabulary")


def test_windows_in_the_ids_of_the_draft(made):
    """Known tokens are mapped, others become 0 and have no probability in the stored laws."""
    raw = made.target_responses(top=True, split="train")
    own = made.responses(top=True, split="train")
    held_out = made.target_responses(split="heldout")
    every = made.target_responses()
    assert len(raw.starts) + len(held_out.starts) == len(every.starts)
    assert sorted([*map(len, raw.prompts()), *map(len, held_out.prompts())]) == sorted(
        map(len, every.prompts())
    )
    target_ids = made.token_map.target_ids
    known = np.isin(raw.tokens, target_ids)
    assert (target_ids[own.tokens][known] == raw.tokens[known]).all()
    assert (own.tokens[~known] == 0).all()
    kept = np.isin(raw.top.ids, target_ids)
    assert 0 < kept.mean() < 1
    assert (target_ids[own.top.ids][kept] == raw.top.ids[kept]).all()
    assert (own.top.logprobs[kept] == raw.top.logprobs[kept]).all()
    assert (own.top.logprobs[~kept] == -np.inf).all()


def test_follow_ups_are_answered(made):
    """Prompts with the target's first answers in them, and their responses as more windows."""
    options = FollowUps(
        count=32,
        max_prompt_tokens=190,
        max_new_tokens=8,
        temperatures=(0.0, 3.0),
        batch_size=16,
        top_logprobs=4,
    )
    workspace = dataclasses.replace(
        made, settings=dataclasses.replace(made.settings, follow_ups=options)
    )
    with pytest.raises(ConfigError, match="follow_ups does not exist; run the follow_ups stage"):
        workspace.responses()
    run_stage(made, "follow_ups")  # Without the section: nothing.
    assert not (made.root / "follow_ups").exists()
    run_stage(workspace, "follow_ups")
    sequences = list(read_sequences(made.root / "follow_ups"))
    tokenizer, turn = made.chat_tokenizer, "<|im_start|>assistant\n"
    first = list(read_sequences(made.root / "responses"))
    answers = {
        held_out: {
            tokenizer.decode([id for id in response if id != _END])
            for name, _, _, response in first
            if is_held_out(name) == held_out
        }
        for held_out in (True, False)
    }
    held_out = sum(is_held_out(name) for name, *_ in first)
    assert 0 < held_out == len(first) - len(_answered(workspace))
    assert {temperature for _, temperature, _, _ in sequences} == {0.0, 3.0}
    seconds = 0
    for name, _, prompt, response in sequences:
        assert len(prompt) <= 190
        assert 1 <= len(response) <= 8
        text = tokenizer.decode(prompt)
        assert text.startswith("<|im_start|>user\n")
        assert text.endswith(turn)
        if int(name.removeprefix("follow_up/")) % 4 == 0:
            seconds += 1
            answer = text.split(turn)[1].split("<|im_end|>")[0]
            assert [each for each in answers[False] if each.strip().startswith(answer)]
            assert not [each for each in answers[True] if each.strip().startswith(answer)]
    assert seconds > 4
    both, alone = workspace.responses(top=True), made.responses(top=True)
    assert len(both.starts) == len(alone.starts) + len(sequences)
    size = len(alone.tokens)
    np.testing.assert_array_equal(both.tokens[:size], alone.tokens)
    np.testing.assert_array_equal(both.is_response[:size], alone.is_response)
    np.testing.assert_array_equal(both.top.rest[: len(alone.top.rest)], alone.top.rest)
    assert both.is_response.sum() == len(both.top.rest)
    windows = both.windows(both.starts[-3:], 200)
    assert windows.mask.any()


def test_a_packed_draft_learns_what_the_stage_learns(made, tmp_path):
    """Without target, tokenizer and configuration; the archive goes back to the work directory."""
    run_stage(made, "pack")
    folder = shutil.move(made.root / "packed", tmp_path / "elsewhere")
    archive = tmp_path / "draft.tar"
    trained = train_packed(read_packed(folder), archive, until=math.inf)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "copy" / "draft", filter="data")
    shutil.copy(made.root / TOKEN_MAP, tmp_path / "copy")
    back = dataclasses.replace(made, root=tmp_path / "copy")
    jax.tree.map(np.testing.assert_array_equal, back.params("draft"), made.params("draft"))
    lines = (made.root / "draft/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert trained.held_out == rows[-1]["heldout"]
    assert (trained.steps, trained.training_loss) == (2, rows[-2]["loss"])
    whole = dataclasses.replace(made.settings.draft, stored_logits=False)
    settings = dataclasses.replace(made.settings, draft=whole, frequent_tokens=None)
    with pytest.raises(ConfigError, match=r"set draft\.stored_logits to True"):
        pack(dataclasses.replace(made, settings=settings))


def test_an_adapter_learns_from_the_responses_if_there_is_no_text(made):
    recipe = dataclasses.replace(made.recipe("draft"), weight_decay=0.0, batch_size=4)
    settings = LayerDropoutSettings(rank=1, fewest=1, most=1, mixture={}, recipe=recipe)
    for split in ("train", "heldout"):
        own, source = layer_dropout._data(made, settings, split), made.target_responses(split=split)
        found = own.spread_windows(count=2, length=96)
        for name in ("tokens", "mask"):
            np.testing.assert_array_equal(getattr(found, name), getattr(source.spread(2, 96), name))
        assert not found.mask.all()
        assert own.batch_at(seed=0, step=0, batch_size=4, length=96).mask.any()


def test_what_is_measured_on_stored_laws(made):
    model, params = made.model("draft"), made.params("draft")
    windows = made.responses(top=True, split="train").spread(4, 96)
    measured = evaluate_stored(model, params, windows, batch_size=2)
    batch = as_batch(windows, None, top=True)
    logits = parity.score(model, params, batch.windows[:, :-1])
    values = {
        "forward_kl": forward_kl(batch.top, logits),
        "acceptance_t1": expected_acceptance(batch.top, logits),
    }
    for name, value in values.items():
        np.testing.assert_allclose(measured[name], value[windows.mask].mean(), rtol=1e-4)
    best = np.take_along_axis(
        np.asarray(batch.top.ids), np.asarray(batch.top.values).argmax(-1)[..., None], -1
    )[..., 0]
    same = (np.asarray(logits).argmax(-1) == best)[windows.mask].mean()
    np.testing.assert_allclose(measured["greedy_agreement"], same, atol=1e-6)


def test_the_exported_draft_drafts_for_its_target(made, tmp_path):
    folder = made.export_dir / "draft"
    exported = json.loads((made.root / "export.json").read_text())
    assert 0 < exported["responses"]["draft"]["acceptance_t1"] <= 1
    assert "same likeliest token" in report(made.root)
    draft, target = load_model(folder), load_model(made.target_directory)
    assert isinstance(draft.model, OnMappedTokens)
    assert draft.model.vocab_size == target.model.vocab_size
    prompts = list(made.own_prompts(made.settings.decode.prompt_files).values())
    options = dict(max_new_tokens=12, temperature=0.0)
    plain = rsd_jax.generate(rsd_jax.build_method("ar"), target, None, prompts, **options)
    for method in (
        rsd_jax.build_method("sd", length=2),
        rsd_jax.build_method("rsd_s", width=2, length=2),
    ):
        drafted = rsd_jax.generate(method, target, draft, prompts, **options)
        assert drafted.tokens == plain.tokens
    # The draft proposes no token that it does not know.
    logits = parity.score(draft.model, draft.params, np.asarray([prompts[0]]))
    known = np.isin(np.arange(340), made.token_map.target_ids)
    assert np.isfinite(np.asarray(logits)[..., known]).all()
    assert (np.asarray(logits)[..., ~known] == -np.inf).all()
    copy = tmp_path / "draft"
    shutil.copytree(folder, copy)
    for damage in (
        {"target_vocab_size": 340},
        {"target_vocab_size": 340, "target_ids": [1, 2]},
        {"target_vocab_size": 340, "target_ids": [5] * _KNOWN},
        {"target_vocab_size": 100, "target_ids": made.token_map.target_ids.tolist()},
        {"target_vocab_size": 340, "target_ids": ["a"] * _KNOWN},
    ):
        (copy / TOKEN_MAP).write_text(json.dumps(damage))
        with pytest.raises(CheckpointError, match="must hold target_vocab_size and, as target_ids"):
            load_model(copy)


def test_held_out_prompts_are_decoded(made):
    rows = json.loads((made.root / "decode.json").read_text())["rows"]
    assert [(row["task"], row["num_prompts"]) for row in rows] == [
        ("files", 2),
        ("self_prompts", 1),
        ("all", 3),
    ]
    decode = dataclasses.replace(made.settings.decode, self_prompts=512)
    with pytest.raises(ConfigError, match=r"decode\.self_prompts=512, but only . prompts"):
        run_stage(_workspace(made.root.parent, decode=decode), "decode")


def test_the_configuration_builds(monkeypatch):
    """The configuration of SmolLM2's draft, without the package that holds the target."""
    from configs.distill import smollm2

    monkeypatch.setattr(smollm2, "target_path", lambda *_: "")
    settings = Settings.from_config(smollm2.get_config())
    draft = settings.draft.model
    assert (draft.vocab_size, settings.frequent_tokens) == (8192, 8192)
    assert 2 * draft.num_parameters < 14e6  # bytes as it is stored
    with pytest.raises(ValueError, match="unknown variant 'x'"):
        smollm2.get_config("x")


def test_a_token_map_is_read_as_it_was_written(tmp_path):
    written = TokenMap(7, np.asarray([-1, 6, 2], np.int32))
    written.save(tmp_path)
    read = read_token_map(tmp_path, 3)
    assert read.target_vocab_size == 7
    assert read.target_ids.tolist() == [-1, 6, 2]
    assert read.draft_ids.tolist() == [-1, -1, 2, -1, -1, -1, 1]
    assert read_token_map(tmp_path / "nowhere", 3) is None


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (341, "frequent_tokens=341 exceeds the target's 340 tokens"),
        (None, "vocab_size=340, the draft has 341"),
    ],
)
def test_bad_numbers_of_frequent_tokens(made, number, message):
    draft = made.settings.draft
    model = dataclasses.replace(draft.model, vocab_size=341)
    draft = dataclasses.replace(draft, model=model)
    other = _workspace(made.root.parent, frequent_tokens=number, draft=draft)
    with pytest.raises(ConfigError, match=message):
        run_stage(other, "vocabulary")


def test_frequent_tokens_need_stored_responses(made):
    settings = made.settings
    draft = dataclasses.replace(settings.draft, stored_logits=False)
    with pytest.raises(ConfigError, match="learns from stored responses only"):
        dataclasses.replace(settings, draft=draft)
    with pytest.raises(ConfigError, match="frequent_tokens=1 must be 2 or more"):
        dataclasses.replace(settings, frequent_tokens=1)
