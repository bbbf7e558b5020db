"""Decoding by Hugging Face transformers on PyTorch: `generate`, alone or with an assistant.

A peer gets what our methods get: the same weights in the same dtype, prompts, number of new
tokens, temperature and draft length, one batch at a time. Its tokens are counted in the same way.
A peer never stops at EOS; our methods do not either when they are compared with a peer.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from rsd_jax.engine.request import Sampling


@dataclasses.dataclass(frozen=True)
class Peer:
    """One way in which the peer decodes a batch.

    Attributes:
      name: "hf_generate" or "hf_assisted".
      draft_length: tokens drafted per round; 0 without an assistant.
      decode: decodes a list of prompts and returns the number of new tokens.
    """

    name: str
    draft_length: int
    decode: Callable[[Sequence[Sequence[int]]], int]


class TransformersPeer:
    """A pair loaded in PyTorch, on the CPU, in float32.

    Attributes:
      target, draft: `LlamaForCausalLM`s.
    """

    def __init__(self, target: pathlib.Path, draft: pathlib.Path):
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self._torch = torch
        load = transformers.LlamaForCausalLM.from_pretrained
        self.target = load(target, dtype=torch.float32).eval()
        self.draft = load(draft, dtype=torch.float32).eval()
        for model in (self.target, self.draft):
            model.generation_config.eos_token_id = None
            model.generation_config.pad_token_id = 0

    def peer(self, sampling: Sampling, *, draft_length: int = 0) -> Peer:
        """A way of decoding batches of prompts.

        Args:
          sampling: exactly max_new_tokens are produced; this call seeds PyTorch's generator.
          draft_length: tokens that the assistant drafts per round; 0 decodes without an assistant.
            An assistant takes batches of one prompt only.
        """
        self._torch.manual_seed(sampling.seed)

        def decode(batch: Sequence[Sequence[int]]) -> int:
            return self._generate(batch, self._options(sampling, draft_length))

        return Peer("hf_assisted" if draft_length else "hf_generate", draft_length, decode)

    def _options(self, sampling: Sampling, draft_length: int) -> dict[str, Any]:
        drawn = sampling.temperature > 0
        options: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens, "do_sample": drawn}
        if drawn:
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
            # The default of transformers is top_k=50.
            options["top_k"] = sampling.top_k or 0
        if draft_length:
            config = self.draft.generation_config
            config.num_assistant_tokens = draft_length
            config.num_assistant_tokens_schedule = "constant"
            config.assistant_confidence_threshold = 0.0
            options["assistant_model"] = self.draft
        return options

    def _generate(self, batch: Sequence[Sequence[int]], options: dict[str, Any]) -> int:
        """New tokens of one call; shorter prompts are padded from the left."""
        torch, width = self._torch, max(map(len, batch))
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        seen = torch.zeros_like(ids)
        for row, prompt in enumerate(batch):
            ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
            seen[row, width - len(prompt) :] = 1
        with torch.inference_mode():
            out = self.target.generate(ids, attention_mask=seen, **options)
        return int((out.shape[1] - width) * len(batch))
