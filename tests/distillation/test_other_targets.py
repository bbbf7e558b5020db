"""Targets of other families: one without BOS, and one whose BOS is also its EOS."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from rsd_jax.distillation.data.mixture import open_source
from rsd_jax.distillation.data.token_files import open_tokens, read_summary
from rsd_jax.distillation.pipeline import run_stage
from rsd_jax.distillation.settings import (
    DraftSettings,
    ModelSettings,
    PromptFiles,
    ResponseSettings,
    Settings,
    TextFiles,
    TrainingSettings,
)
from rsd_jax.distillation.workspace import Workspace
from rsd_jax.models.checkpoint import save_model
from rsd_jax.models.families import FAMILIES
from rsd_jax.models.loading import build_model
from tests import parity, tiny, tiny_tokenizers

pytestmark = pytest.mark.standard_promotion  # optax

_TEXTS = [f"Hello there {i}, assistant and user: {'answer ' * (i % 5)}" for i in range(40)]
_SIZES = dict(vocab_size=340, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
_TARGETS = {
    "opt": dict(ffn_dim=24, word_embed_proj_dim=16, bos_token_id=2, eos_token_id=2),
    "qwen2": dict(intermediate_size=24, num_key_value_heads=1, bos_token_id=None, eos_token_id=2),
}
_TOKENIZERS = {"opt": tiny_tokenizers.opt, "qwen2": tiny_tokenizers.chatml}


@pytest.fixture(scope="module", params=_TARGETS)
def workspace(request, tmp_path_factory):
    """The work directory of a tiny target with random weights, after the stage `text`."""
    family, root = request.param, tmp_path_factory.mktemp(request.param)
    raw = {"model_type": family} | _SIZES | _TARGETS[family]
    config = FAMILIES[family].read_config(raw)
    params = parity.random_params(build_model(config, dtype="float32"))
    save_model(root / "target", config, params, dtype="float32")
    _TOKENIZERS[family]().save_pretrained(root / "target")
    for name, field in (("text", "text"), ("prompts", "prompt")):
        lines = (json.dumps({field: text}) + "\n" for text in _TEXTS)
        (root / f"{name}.jsonl").write_text("".join(lines))
    model = dataclasses.replace(tiny.TRAINED.config, vocab_size=340)
    recipe = TrainingSettings(
        steps=2, batch_size=2, window=40, warmup_steps=1, eval_windows=2, eval_batch_size=2
    )
    settings = Settings(
        target_directory=str(root / "target"),
        mixture={"files": 1.0},
        files=TextFiles(patterns=(str(root / "text.jsonl"),), held_out_per_mille=300),
        prompt_files=PromptFiles(patterns=(str(root / "prompts.jsonl"),), limit=4),
        max_prompt_tokens=40,
        responses=ResponseSettings(max_new_tokens=6, batch_size=4, top_logprobs=4),
        draft_warm_start=ModelSettings(model=model, recipe=recipe),
        draft=DraftSettings(
            model=model,
            recipe=dataclasses.replace(recipe, objective="forward_kl", window=64),
            data={"text": 0.5, "responses": 0.5},
            stored_logits=False,
        ),
    )
    made = Workspace(settings, root / "work", root / "export")
    run_stage(made, "text")
    return made


def test_documents_end_with_eos(workspace):
    directory = workspace.root / "corpus" / "files"
    tokens, bos_id = open_tokens(directory, "train"), read_summary(directory)["bos_id"]
    assert bos_id == (2 if workspace.model("target").config.model_type == "opt" else None)
    assert tokens[0] != 2
    ends = np.flatnonzero(tokens == 2)
    assert ends[-1] == len(tokens) - 1
    tokenizer = _TOKENIZERS[workspace.model("target").config.model_type]()
    documents = [tokenizer.decode(part) for part in np.split(tokens, ends + 1)[:-1]]
    end = tokenizer.decode([2])
    assert all(document.endswith(end) for document in documents)
    assert len(documents) > 20
    assert {document.removesuffix(end) for document in documents} < set(_TEXTS)
    # A window opens as a prompt does, with all that the tokenizer puts in front.
    source = open_source(directory, "train", weight=1.0, anywhere=False)
    prompts = [tokenizer(text).input_ids for text in _TEXTS]
    for windows in (source.draw(np.random.default_rng(0), 40, 30), source.spread(40, 30)):
        for window in windows.tokens:
            size = next(i for i, token in enumerate(window[1:], 1) if token == 2 or i == 30)
            assert window[:size].tolist() in [prompt[:size] for prompt in prompts]
    anywhere = open_source(directory, "train", weight=1.0, anywhere=True)
    for windows in (anywhere.draw(np.random.default_rng(0), 40, 30), anywhere.spread(40, 30)):
        assert windows.tokens.shape == (40, 31)
        body = windows.tokens[:, bos_id is not None :]
        seen = np.lib.stride_tricks.sliding_window_view(tokens, body.shape[1])
        assert {tuple(row) for row in body.tolist()} <= {tuple(row) for row in seen.tolist()}
        assert bos_id is None or (windows.tokens[:, 0] == bos_id).all()


def test_a_draft_is_distilled(workspace):
    """Every stage up to the draft, which learns from the target's whole laws."""
    for stage in ("generate", "draft_warm_start", "draft", "export"):
        run_stage(workspace, stage)
    prompts = workspace.own_prompts(workspace.settings.prompt_files).values()
    if workspace.model("target").config.model_type == "opt":
        assert all(prompt[0] == 2 for prompt in prompts)
    draft = workspace.loaded("draft")
    target = workspace.model("target").config
    assert (draft.model.config.bos_id, draft.model.config.eos_ids) == (target.bos_id, (2,))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(draft.params))
