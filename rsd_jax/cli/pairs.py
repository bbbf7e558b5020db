"""Loads pairs for the commands, as a configuration or flags describe them."""

import dataclasses
import functools
import warnings

import jax

from rsd_jax.errors import CheckpointError
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.models import pairs
from rsd_jax.models.loading import load_model
from rsd_jax.models.loading import load_tokenizer as _tokenizer
from rsd_jax.models.pairs import LoadedPair
from rsd_jax.models.shared_tokens import share_tokens
from rsd_jax.text.encoding import first_difference


def load_pair(source: PairSource, mesh: jax.sharding.Mesh | None = None) -> LoadedPair:
    """Target, draft (None without a draft) and tokenizer.

    Warns if the draft's directory holds a tokenizer whose tokens are others than the target's,
    unless the two are to share tokens.

    Raises:
      ConfigError, CheckpointError: see `rsd_jax.load_model` and `rsd_jax.load_pair`.
    """
    if source.shipped:
        pair = pairs.load_pair(
            source.shipped,
            source=source.source or None,
            draft=source.draft or None,
            dtype=source.dtype,
            mesh=mesh,
            replicate_draft=source.replicate_draft,
            progress=True,
        )
    else:
        tokenizer = _tokenizer(source.tokenizer or source.target)  # first, as weights take long
        load = functools.partial(load_model, dtype=source.dtype, mesh=mesh, progress=True)
        pair = LoadedPair(
            target=load(source.target, adapter=source.adapter or None),
            draft=load(source.draft, replicated=source.replicate_draft) if source.draft else None,
            tokenizer=tokenizer,
        )
    if pair.draft is not None and source.draft and source.share_tokens:
        own = _tokenizer(source.draft)
        shared = share_tokens(pair.draft, own, pair.target, pair.tokenizer)
        return dataclasses.replace(pair, draft=shared)
    if source.draft:
        _warn_of_other_tokens(source, pair.tokenizer)
    return pair


def _warn_of_other_tokens(source: PairSource, tokenizer) -> None:
    try:
        drafted = _tokenizer(source.draft)
    except CheckpointError:
        return  # a draft needs no tokenizer of its own
    if difference := first_difference(tokenizer, drafted):
        token, ours, theirs = difference
        target = source.tokenizer or source.target or source.shipped
        warnings.warn(
            f"the tokenizers of {target} and {source.draft} differ: id {token} is {ours!r} "
            f"there and {theirs!r} here. The output keeps the target's law, but few drafted tokens "
            "will be accepted; use a draft with the target's tokenizer, or set share_tokens=True",
            stacklevel=3,
        )
