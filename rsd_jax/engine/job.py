"""From the arguments of `generate` to a checked job for the engine."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.skips import check_skips, start_set
from rsd_jax.core.types import LanguageModel, LoadedModel
from rsd_jax.core.vocabulary import on_shared_tokens
from rsd_jax.drafters.base import ModelParams, Models
from rsd_jax.engine.batching import Batch, check_models, check_prompts, eos_array, split
from rsd_jax.engine.decoding import prefill
from rsd_jax.engine.methods import Method
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.request import Request
from rsd_jax.engine.state import DecodeState
from rsd_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Job:
    """A checked request.

    Attributes:
      engine: what the compiled programs are keyed on.
      params: of the models the method uses.
      options: traced.
      batches: the prompts, packed on the host.
      seed: u32[].
    """

    engine: Engine
    params: ModelParams
    options: DecodeOptions
    batches: list[Batch]
    seed: np.generic


def prepare(
    method: Method, target: LoadedModel, draft: LoadedModel | None, request: Request
) -> Job:
    """Checks everything before anything runs; models and errors as `generate`."""
    if not isinstance(method, Method):
        raise ConfigError(f"method must come from build_method(name, ...); got {method!r}")
    for name, model in (("target", target), ("draft", draft)):
        if not isinstance(model, LoadedModel) and (model is not None or name == "target"):
            raise ConfigError(f"{name} must come from load_model or load_pair; got {model!r}")
    draft_model = draft.model if draft is not None else None
    check_models(method, target.model, draft_model)
    if not method.drafter.needs_draft_model:
        draft, draft_model = None, None
    sampling = request.sampling
    check_prompts(request.prompts, request.limit_of, target.model, draft_model)
    if draft_model is not None:
        draft_model = on_shared_tokens(draft_model, target.model.vocab_size)
    if draft is not None and _mesh(draft.layout) != _mesh(target.layout):
        raise ConfigError("target and draft live on different meshes; load both with the same one")
    options = DecodeOptions(
        target_warp=sampling.target_warp,
        draft_warp=method.draft_warp(sampling),
        eos_ids=jnp.asarray(eos_array(sampling.eos_ids, target.model.vocab_size)),
    )
    engine = Engine(
        models=Models(target=target.model, draft=draft_model),
        drafter=method.drafter,
        verifier=method.verifier,
        layout=target.layout,
        draft_layout=None if draft is None else draft.layout,
    )
    params = ModelParams(
        target=target.params,
        draft=draft.params if draft else None,
        skips=_skips(method, target.model, request.skips),
    )
    shards = target.layout.data_shards if target.layout else 1
    batches = list(split(request, method, multiple=shards))
    return Job(engine, params, options, batches, np.uint32(sampling.seed))


def _mesh(layout: MeshLayout | None) -> jax.sharding.Mesh | None:
    return None if layout is None else layout.mesh


def _skips(method: Method, target: LanguageModel, skips: np.ndarray | None) -> jax.Array | None:
    """The sub-layers to skip while drafting, on device; None for methods that skip nothing."""
    if not method.drafter.needs_skips:
        if skips is not None:
            raise ConfigError(
                f"method {method.name!r} does not draft with its target, so it takes no skips"
            )
        return None
    chosen = start_set(target.num_layers) if skips is None else skips
    return jnp.asarray(check_skips(chosen, target.num_layers))


def start(job: Job, batch: Batch) -> DecodeState:
    """Prefill of one batch."""
    seed, prompts = jax.tree.map(jnp.asarray, (job.seed, batch.prompts))
    return prefill(job.engine, job.params, seed, prompts)
