"""SWIFT (Xia et al. 2025): the target drafts for itself, with sub-layers skipped."""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import Scratch
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.backbone import BackboneRule, grow_backbone
from rsd_jax.drafters.base import DraftContext, Drafter, ModelParams, Models
from rsd_jax.errors import ConfigError, is_integer


@dataclasses.dataclass(frozen=True)
class SwiftDrafter(Drafter):
    """Drafts a candidate tree token by token, until no row is confident.

    The committed prefix is read from the target's cache, with keys and values of the whole model.
    Draft-mode keys and values of the root and the chain go to a scratch of L slots, which is not
    kept. The target pass runs at the smallest of `widths` that holds the trees of the batch.

    Attributes:
      rule: when to stop, and how many siblings.
      widths: widths of the target pass, ascending; widths that no tree needs are not compiled.
    """

    rule: BackboneRule
    widths: tuple[int, ...] = (8, 16, 32, 64, 136)

    def __post_init__(self):
        if not all(is_integer(width) and width >= 1 for width in self.widths) or (
            list(self.widths) != sorted(set(self.widths))
        ):
            raise ConfigError(f"widths={self.widths!r} must be ascending integers of at least 1")

    @property
    def shape(self) -> TreeShape:
        return self.rule.shape

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})

    @property
    def words(self) -> str:
        """The length of the chain, whatever its siblings are."""
        return str(self.rule.length)

    @property
    def needs_skips(self) -> bool:
        return True

    @property
    def draft_passes(self) -> None:
        return None

    @property
    def distinct_siblings(self) -> int:
        return 1  # a small vocabulary gives fewer siblings

    @property
    def max_nodes(self) -> int:
        return self.rule.max_nodes

    @property
    def pass_widths(self) -> tuple[int, ...]:
        most = self.rule.max_nodes
        narrower = tuple(width for width in self.widths if width < most)
        wide_enough = [width for width in self.widths if width >= most]
        return (*narrower, min(wide_enough, default=most))

    def init(self, models: Models, batch: int, capacity: int) -> Scratch:
        return models.target.init_scratch(batch, self.rule.length)

    def draft(
        self,
        models: Models,
        params: ModelParams,
        state: Scratch,
        context: DraftContext,
        warp: Warp,
        keys: jax.Array,
    ) -> tuple[DraftTree, Scratch]:
        n = context.length[:, None]
        root = jnp.take_along_axis(context.tokens, n - 1, axis=1)[:, 0]
        slots = jnp.arange(self.rule.length, dtype=jnp.int32)

        def score_step(step: jax.Array, tokens: jax.Array, scratch: Scratch):
            logits, scratch = models.target.forward(
                params.target,
                tokens[:, None],
                n - 1 + step,
                context.target_cache,
                scratch,
                slot=step,
                mask=(slots <= step)[None, None],
                skips=params.skips,
            )
            return logits[:, 0], scratch

        return grow_backbone(
            self.rule, score_step, state, root, context.active, warp=warp, keys=keys
        )
