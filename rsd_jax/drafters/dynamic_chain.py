"""A draft model that goes on while it is confident (Mamou et al. 2024, dynamic speculation)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.tree import DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import Scratch
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.backbone import BackboneRule, grow_backbone
from rsd_jax.drafters.base import DraftContext, ModelParams, Models, doubling_widths
from rsd_jax.drafters.model import (
    BEFORE_ROOT,
    ROOT,
    ModelDraftState,
    ModelState,
    draft_model,
    root_inputs,
)


@dataclasses.dataclass(frozen=True)
class DynamicChain(ModelState):
    """One chain of a draft model, of at most L tokens; the last one is the first unlikely one.

    The draft stops after a token whose probability under the draft at temperature 1 is not above
    `stop_below`. This token stays: whether it is drawn depends on the tokens before it only, so
    drafting is predictable. The target pass runs at the smallest width that holds the chains of the
    batch.

    Attributes:
      length: L.
      stop_below: in [0, 1]; 0 never stops.
    """

    length: int
    stop_below: float = 0.4

    def __post_init__(self):
        object.__setattr__(self, "length", int(self.rule.length))
        object.__setattr__(self, "stop_below", float(self.stop_below))

    @property
    def rule(self) -> BackboneRule:
        """A tree of SWIFT without siblings; checks the fields."""
        return BackboneRule(self.length, self.stop_below, (), (1,), (1,))

    @property
    def shape(self) -> TreeShape:
        return self.rule.shape

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        # K-SEQ takes i.i.d. drafts of a fixed number only, so this law is not among them.
        return frozenset({SiblingLaw.SINGLE, SiblingLaw.WITHOUT_REPLACEMENT})

    @property
    def words(self) -> str:
        return f"{self.length}@{np.format_float_positional(self.stop_below, trim='-')}"

    @property
    def draft_passes(self) -> None:
        return None

    @property
    def pass_widths(self) -> tuple[int, ...]:
        return doubling_widths(self.shape.num_nodes)

    def draft(
        self,
        models: Models,
        params: ModelParams,
        state: ModelDraftState,
        context: DraftContext,
        warp: Warp,
        keys: jax.Array,
    ) -> tuple[DraftTree, ModelDraftState]:
        model, n = draft_model(models), context.length[:, None]
        slots = jnp.arange(ROOT + self.shape.num_internal, dtype=jnp.int32)[None, None]
        sees_before = (n >= 2)[..., None] | (slots >= ROOT)
        root_tokens, last_two = root_inputs(context)

        def score_root(step: jax.Array, tokens: jax.Array, scratch: Scratch):
            itself = jnp.broadcast_to(slots == BEFORE_ROOT, sees_before.shape)
            mask = jnp.concatenate([itself, sees_before & (slots <= ROOT)], axis=1)
            logits, scratch = model.forward(
                params.draft,
                root_tokens,
                last_two,
                state.cache,
                scratch,
                slot=BEFORE_ROOT,
                mask=mask,
                logits_for=slice(1, None),
            )
            return logits[:, 0], scratch

        def score_step(step: jax.Array, tokens: jax.Array, scratch: Scratch):
            logits, scratch = model.forward(
                params.draft,
                tokens[:, None],
                n - 1 + step,
                state.cache,
                scratch,
                slot=ROOT + step,
                mask=sees_before & (slots <= ROOT + step),
            )
            return logits[:, 0], scratch

        tree, scratch = grow_backbone(
            self.rule,
            score_step,
            state.scratch,
            root_tokens[:, 1],
            context.active,
            warp=warp,
            keys=keys,
            score_root=score_root,
        )
        return tree, dataclasses.replace(state, scratch=scratch)
