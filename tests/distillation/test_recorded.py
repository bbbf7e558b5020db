"""The program that decodes and keeps the target's likeliest tokens."""

import jax.numpy as jnp
import numpy as np

import rsd_jax
from rsd_jax.distillation.responses import recorded
from rsd_jax.distillation.truncated import TruncatedLogits
from rsd_jax.engine.decoding import UNLIMITED
from rsd_jax.engine.job import prepare, start
from rsd_jax.engine.request import Request, Sampling
from rsd_jax.models.pairs import shipped_pair_directory
from tests import AS_USERS_COMPILE


def test_the_vocabulary_is_not_sorted():
    """A full sort of each row's 49152 logits took half the time of SmolLM2's responses."""
    model = rsd_jax.load_model(shipped_pair_directory("quickstart") / "draft")
    request = Request(
        prompts=[[5, 6, 7]] * 3, sampling=Sampling(max_new_tokens=8, temperature=1.0), batch_size=3
    )
    job = prepare(rsd_jax.build_method("ar"), model, None, request)
    top = TruncatedLogits(jnp.zeros((3, 9, 8)), jnp.zeros((3, 9, 8), jnp.int32), jnp.zeros((3, 9)))
    program = recorded._advance.lower(
        job.engine,
        8,
        job.params,
        start(job, job.batches[0]),
        top,
        job.options,
        np.int32(5),
        UNLIMITED,
    )
    text = program.compile(AS_USERS_COMPILE).as_text()
    assert " sort(" not in text
    assert 'custom_call_target="TopK"' in text
