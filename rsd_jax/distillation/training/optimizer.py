"""The optimiser of a training run and its learning rate."""

import jax
import optax
import optax.contrib

from rsd_jax.distillation.settings import TrainingSettings


def learning_rate(recipe: TrainingSettings) -> optax.Schedule:
    """Linear warm-up, then the recipe's schedule down to `final_fraction` at the last step."""
    warmup = min(recipe.warmup_steps, recipe.steps - 1)
    if recipe.schedule == "wsd":
        peak, decay = recipe.learning_rate, round(recipe.decay_fraction * recipe.steps)
        return optax.join_schedules(
            [
                optax.linear_schedule(0.0, peak, warmup),
                optax.constant_schedule(peak),
                optax.linear_schedule(peak, peak * recipe.final_fraction, decay),
            ],
            [warmup, max(recipe.steps - decay, warmup)],
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=recipe.learning_rate,
        warmup_steps=warmup,
        decay_steps=recipe.steps,
        end_value=recipe.learning_rate * recipe.final_fraction,
    )


def _kind(path: tuple, leaf: jax.Array) -> str:
    # Muon is for maps between hidden vectors, which embeddings and output head are not.
    outer = {"embed_tokens", "lm_head"} & {getattr(key, "key", None) for key in path}
    return "muon" if leaf.ndim == 2 and not outer else "adamw"


def optimizer(recipe: TrainingSettings) -> optax.GradientTransformation:
    """The optimiser, after clipping of the gradient's global norm.

    AdamW (Loshchilov & Hutter 2019) for all parameters, or Muon (Jordan et al. 2024) for the
    layers' matrices and AdamW for the rest. Muon's updates are scaled to AdamW's size (Liu et al.
    2025), so that both share one learning rate.
    """
    rate = learning_rate(recipe)
    update = optax.adamw(
        rate,
        b1=recipe.beta1,
        b2=recipe.beta2,
        weight_decay=recipe.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )
    if recipe.optimizer == "muon":
        muon = optax.contrib.muon(rate, weight_decay=recipe.weight_decay, consistent_rms=0.2)
        update = optax.multi_transform(
            {"muon": muon, "adamw": update},
            lambda params: jax.tree_util.tree_map_with_path(_kind, params),
        )
    return optax.chain(optax.clip_by_global_norm(recipe.clip_norm), update)
