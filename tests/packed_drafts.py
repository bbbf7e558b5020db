"""A tiny packed draft."""

import dataclasses
import pathlib
import tempfile

import jax

from rsd_jax.distillation.packed import write_packed
from rsd_jax.distillation.responses.generate import generate_responses
from rsd_jax.distillation.settings import ResponseSettings, TrainingSettings
from tests import tiny

RECIPE = TrainingSettings(
    objective="forward_kl",
    steps=3,
    batch_size=2,
    window=16,
    warmup_steps=1,
    log_every=1,
    eval_windows=2,
    eval_batch_size=2,
)


class _Words:
    """A tokenizer, of which only the vocabulary is asked."""

    def get_vocab(self):
        return {f"word {index}": index for index in range(32)}


def write(folder: pathlib.Path, *, steps: int = 3) -> pathlib.Path:
    """Writes the draft `tiny.TRAINED`, to be trained for `steps`; returns the folder."""
    with tempfile.TemporaryDirectory() as temporary:
        responses = pathlib.Path(temporary) / "responses"
        prompts = {str(index): prompt for index, prompt in enumerate(tiny.PROMPTS)}
        settings = ResponseSettings(max_new_tokens=tiny.NUM_TOKENS, batch_size=4, top_logprobs=4)
        generate_responses(tiny.pair()[0], prompts, settings, responses, tokenizer=_Words())
        write_packed(
            folder,
            dataclasses.replace(RECIPE, steps=steps),
            tiny.TRAINED.config,
            tiny.TRAINED.init_params(jax.random.key(0)),
            [responses],
            token_map=None,
            holds_out=False,
        )
    return folder
