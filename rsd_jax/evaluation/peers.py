"""Decoding by other engines; here Hugging Face transformers on PyTorch, alone or with an assistant.

A peer gets what our methods get: the same weights in the same dtype, prompts, number of new
tokens, temperature and draft length, one batch at a time. Its tokens are counted in the same way.
A peer never stops at EOS; our methods do not either when they are compared with a peer.
"""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.core.vocabulary import STAND_IN, OnMappedTokens
from rsd_jax.engine.request import Sampling
from rsd_jax.models.checkpoint import save_model
from rsd_jax.models.decoder import DecoderModel
from rsd_jax.models.families import family_of
from rsd_jax.models.family import ModelConfig

LIBRARIES = ("torch", "transformers")


@dataclasses.dataclass(frozen=True)
class Peer:
    """One way in which the peer decodes a batch.

    Attributes:
      name: "hf_generate", "hf_static" (a static cache, compiled on an accelerator),
        "hf_assisted", "llama_cpp" or "llama_cpp_lookup".
      draft_length: tokens drafted per round; 0 if none are.
      decode: decodes a list of prompts and returns the number of new tokens.
      libraries: names of the engine's packages, whose versions rows hold.
    """

    name: str
    draft_length: int
    decode: Callable[[Sequence[Sequence[int]]], int]
    libraries: tuple[str, ...]


class TransformersPeer:
    """A pair in PyTorch.

    Attributes:
      target, draft: causal language models of transformers, on one device and in one dtype; draft
        None for decoding without an assistant.
    """

    def __init__(self, target: Any, draft: Any = None):
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self._torch = torch
        self.target = target.eval()
        self.draft = None if draft is None else draft.eval()
        for model in (self.target, self.draft):
            if model is None:
                continue
            model.generation_config.eos_token_id = None
            model.generation_config.pad_token_id = 0

    @classmethod
    def of_models(cls, target: LoadedModel, draft: LoadedModel | None) -> "TransformersPeer":
        """Loaded models, wherever they come from, on the CPU, in float32.

        A draft with another table of tokens than its target's gets the target's ids, as here.

        Args:
          target: of a family in `FAMILIES`.
          draft: the same, or a draft that knows only some tokens; None for none. A draft that is
            no network of `FAMILIES` is left out.
        """
        import torch
        import transformers

        def moved(loaded: LoadedModel, folder: pathlib.Path) -> Any:
            assert isinstance(loaded.model, DecoderModel)
            save_model(folder, loaded.model.config, loaded.params, dtype="float32")
            read = transformers.AutoModelForCausalLM.from_pretrained
            return read(folder, dtype=torch.float32)

        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            theirs = moved(target, root / "target")
            own = None if draft is None else _own_table(draft, target.model.vocab_size)
            if own is None:
                return cls(theirs)
            network, draft_ids = own
            assistant = moved(network, root / "draft")
            return cls(theirs, assistant if draft_ids is None else _mapped(assistant, draft_ids))

    @classmethod
    def random(cls, target: ModelConfig, draft: ModelConfig, dtype: str) -> "TransformersPeer":
        """A pair with random weights, made on PyTorch's accelerator if there is one.

        Args:
          target, draft: shapes.
          dtype: name of the weights' dtype, e.g. "bfloat16".
        """
        import torch
        import transformers

        def make(config: ModelConfig) -> Any:
            values = family_of(config).write_config(config)
            return transformers.AutoModelForCausalLM.from_config(
                transformers.AutoConfig.for_model(**values)
            )

        usual = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, dtype))
        try:
            with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
                return cls(make(target), make(draft))
        finally:
            torch.set_default_dtype(usual)

    def peer(
        self, sampling: Sampling, *, draft_length: int = 0, static_cache: bool = False
    ) -> Peer:
        """A way of decoding batches of prompts.

        Args:
          sampling: exactly max_new_tokens are produced; this call seeds PyTorch's generator.
          draft_length: tokens that the assistant drafts per round; 0 decodes without an assistant.
            An assistant takes batches of one prompt only.
          static_cache: whether the cache has a fixed size, with which transformers compiles the
            steps on an accelerator; not with an assistant.
        """
        self._torch.manual_seed(sampling.seed)

        def decode(batch: Sequence[Sequence[int]]) -> int:
            options = self._options(sampling, draft_length)
            if static_cache:
                options["cache_implementation"] = "static"
            return self._generate(batch, options)

        name = "hf_static" if static_cache else "hf_generate"
        name = "hf_assisted" if draft_length else name
        return Peer(name, draft_length, decode, LIBRARIES)

    @contextlib.contextmanager
    def counted_calls(self) -> Iterator[list[int]]:
        """A list of one number: calls of the target, prefill included, while the context lasts.

        Not for compiled steps, which a counter would break up.
        """
        calls = [0]

        def count(*_: Any) -> None:
            calls[0] += 1

        handle = self.target.register_forward_hook(count)
        try:
            yield calls
        finally:
            handle.remove()

    def _options(self, sampling: Sampling, draft_length: int) -> dict[str, Any]:
        drawn = sampling.temperature > 0
        options: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens, "do_sample": drawn}
        if drawn:
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
            # The default of transformers is top_k=50.
            options["top_k"] = sampling.top_k or 0
        if draft_length:
            assert self.draft is not None
            config = self.draft.generation_config
            config.num_assistant_tokens = draft_length
            config.num_assistant_tokens_schedule = "constant"
            config.assistant_confidence_threshold = 0.0
            options["assistant_model"] = self.draft
        return options

    def _generate(self, batch: Sequence[Sequence[int]], options: dict[str, Any]) -> int:
        """New tokens of one call; shorter prompts are padded from the left."""
        torch, width = self._torch, max(map(len, batch))
        ids = torch.zeros((len(batch), width), dtype=torch.long, device=self.target.device)
        seen = torch.zeros_like(ids)
        for row, prompt in enumerate(batch):
            ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
            seen[row, width - len(prompt) :] = 1
        with torch.inference_mode():
            out = self.target.generate(ids, attention_mask=seen, **options)
        if out.is_cuda:
            torch.cuda.synchronize()
        return int((out.shape[1] - width) * len(batch))


def _own_table(draft: LoadedModel, size: int) -> tuple[LoadedModel, np.ndarray | None] | None:
    """The network of a draft, and i32[size], its ids of the target's tokens, -1 for none.

    Without ids if both tables are the same; None for a draft that is no network.
    """
    ids = None
    if isinstance(draft.model, OnMappedTokens):
        ids = np.asarray(draft.params["draft_ids"])
        draft = dataclasses.replace(draft, model=draft.model.model, params=draft.params["model"])
    elif draft.model.vocab_size != size:
        every = np.arange(size)
        ids = np.where(every < draft.model.vocab_size, every, -1)
    return (draft, ids) if isinstance(draft.model, DecoderModel) else None


def _mapped(model: Any, draft_ids: np.ndarray) -> Any:
    """A model of transformers with the ids of its target, as `OnMappedTokens`; changed in place."""
    import torch

    ids = torch.tensor(draft_ids, dtype=torch.long)
    lacking = ids < 0
    fed, known = torch.where(lacking, STAND_IN, ids), ids.clamp(min=0)
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()

    class Fed(torch.nn.Module):
        """The table of tokens, which is fed ids of the target."""

        def forward(self, tokens: Any) -> Any:
            return embed(fed[tokens])

    class Shared(torch.nn.Module):
        """The logits at the target's ids, -inf at those that the draft lacks."""

        def forward(self, hidden: Any) -> Any:
            return head(hidden)[..., known].masked_fill(lacking, -torch.inf)

    model.set_input_embeddings(Fed())
    model.set_output_embeddings(Shared())
    model.config.vocab_size = len(ids)
    return model
