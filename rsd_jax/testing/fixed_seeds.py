"""Tokens, laws and random bits at fixed seeds, by which commits and devices are compared.

`python -m tests.fixed_seed_record` writes the record of a CPU, and holds other commits against it;
`launch/accelerator.sh check` holds an accelerator against the same record.
"""

import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import Purpose, block_keys, row_keys
from rsd_jax.core.threefry import fold_in, key_words, random_words
from rsd_jax.core.types import LoadedModel
from rsd_jax.core.warp import make_warp
from rsd_jax.engine.generation import generate
from rsd_jax.engine.methods import build_method
from rsd_jax.engine.results import GenerateResult
from rsd_jax.evaluation.accelerator.check import Reference
from rsd_jax.testing.tiny_llama import tiny_pair

METHODS: dict[str, dict] = {
    "ar": {},
    "sd": {"length": 4},
    "spectr": {"num_drafts": 3, "length": 4},
    "rsd_c": {"branching": (2, 2, 1, 1)},
    "rsd_s": {"width": 4, "length": 4},
    "static": {"parents": (-1, 0, 0, 0, 1, 1, 3, 4)},
    "lookup": {"length": 4, "shortest": 1},
    "dynamic": {"length": 4, "stop_below": 0.4},
    "dyspec": {"width": 4, "length": 4, "threshold": 0.02},
    "beam": {"width": 4, "length": 4},
    "mixed_beam": {"width": 4, "length": 4},
    "swift": {"length": 6, "stop_below": 0.2, "confidences": (0.8, 0.5, 0.2)},
    "self_sd": {"length": 3},
    "self_spectr": {"num_drafts": 2, "length": 3},
    "self_rsd_c": {"branching": (2, 2, 1)},
    "self_rsd_s": {"width": 3, "length": 3},
}
GREEDY = "greedy, batch 3"
"""The case by which devices are compared."""

_GREEDY, _SAMPLED = {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}
# case: (sampling, prompts, sizes of a mesh or None)
CASES: dict[str, tuple[dict, int, tuple[int, int] | None]] = {
    "greedy, batch 1": (_GREEDY, 1, None),
    GREEDY: (_GREEDY, 3, None),
    "sampled, batch 1": (_SAMPLED, 1, None),
    "sampled, batch 3": (_SAMPLED, 3, None),
    "sampled, batch 3, mesh 2x2": (_SAMPLED, 3, (2, 2)),
}
PROMPTS = [[1, 28, 9, 14, 0, 23, 6, 17], [7], [11, 2, 30, 5, 5]]
_NEW_TOKENS = 48
_EOS = 12  # some rows meet it
_SEED = 11
_SKIPS = np.asarray([[False, False], [False, True]])
_LAW_SHAPE = (4, 12)  # sequences and tokens after which laws are compared
_WORDS = 256  # of every row, block and purpose


def fixed_pair(dtype: str = "float32") -> tuple[LoadedModel, LoadedModel]:
    """The pair that decodes: a tiny target, and a draft that partly agrees with the target."""
    return tiny_pair(share=0.05, dtype=dtype)


def decode(name: str, case: str, target: LoadedModel, draft: LoadedModel | None) -> GenerateResult:
    """Decodes the prompts of a case.

    Args:
      name: of a method in `METHODS`.
      case: in `CASES`; its mesh is that of the models.
      target, draft: from `fixed_pair`, in any dtype and place.
    """
    sampling, rows, _ = CASES[case]
    method = build_method(name, **METHODS[name])
    return generate(
        method,
        target,
        draft if method.drafter.needs_draft_model else None,
        PROMPTS[:rows],
        seed=_SEED,
        max_new_tokens=_NEW_TOKENS,
        eos_id=_EOS,
        skips=_SKIPS if method.drafter.needs_skips else None,
        **sampling,
    )


def laws(target: LoadedModel, draft: LoadedModel) -> np.ndarray:
    """f32[2, positions, V]: laws at T = 0.7 of target and draft after every token of fixed rows."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, target.model.vocab_size, _LAW_SHAPE), jnp.int32)
    warp = make_warp(0.7)

    def of(loaded: LoadedModel) -> np.ndarray:
        score = jax.jit(lambda params: jnp.exp(warp(loaded.model.score(params, tokens))))
        return np.asarray(score(loaded.params), np.float32).reshape(-1, loaded.model.vocab_size)

    return np.stack([of(target), of(draft)])


def random_bits() -> np.ndarray:
    """u32[purposes, 2, rows, words]: what every draw of some blocks is made of."""
    requests = jnp.asarray([0, 1, 2, 2**31 - 1], jnp.int32)

    @jax.jit
    def draw(requests: jax.Array) -> list[jax.Array]:
        keys = block_keys(row_keys(_SEED, requests), jnp.arange(4, dtype=jnp.int32))
        words = key_words(keys)
        return [jnp.stack(random_words(fold_in(words, each), _WORDS)) for each in Purpose]

    return np.stack([np.asarray(each) for each in draw(requests)])


def bits_sha256() -> str:
    """SHA-256 of `random_bits`, in hexadecimal."""
    return hashlib.sha256(random_bits().astype("<u4").tobytes()).hexdigest()


def reference(tokens: pathlib.Path, others: pathlib.Path) -> Reference:
    """What a device is compared with.

    Args:
      tokens: the record of tokens, by case and method.
      others: the record of laws and bits.
    """
    recorded = json.loads(tokens.read_text(encoding="utf-8"))[GREEDY]
    beside = json.loads(others.read_text(encoding="utf-8"))
    return Reference(
        tokens={name: run["tokens"] for name, run in recorded.items()},
        laws=np.asarray(beside["laws"], np.float32),
        bits=beside["bits"],
        prompts=PROMPTS,
        pair=fixed_pair,
        decode=_decode_greedily,
        find_laws=laws,
        find_bits=bits_sha256,
    )


def _decode_greedily(name: str, target: LoadedModel, draft: LoadedModel) -> list[list[int]]:
    return decode(name, GREEDY, target, draft).tokens
