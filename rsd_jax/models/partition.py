"""Logical axes of the parameters of a Llama; `rsd_jax.core.sharding` maps them to a mesh."""

from rsd_jax.models.config import LlamaConfig

_Axes = tuple[tuple[str | None, ...], tuple[int, ...]]


def param_axes(config: LlamaConfig, names: tuple[str, ...]) -> _Axes:
    """Logical axes of one parameter and, for each, the number of units that must stay whole.

    Args:
      config: of the model.
      names: path of the parameter, e.g. ("layers_0", "self_attn", "q_proj", "kernel").

    Returns:
      (axes, sizes) as `MeshLayout.spec` takes them. Projections to and from heads count key/value
      heads, so that no group of heads is ever cut.
    """
    c = config
    # Query heads move with the key/value head they share: a group is never spread.
    units = {
        "heads": c.num_kv_heads,
        "kv_heads": c.num_kv_heads,
        "mlp": c.intermediate_size,
        "vocab": c.vocab_size,
        "embed": c.hidden_size,
    }
    outputs = {
        "q_proj": "heads",
        "k_proj": "kv_heads",
        "v_proj": "kv_heads",
        "gate_proj": "mlp",
        "up_proj": "mlp",
    }
    inputs = {"o_proj": "heads", "down_proj": "mlp"}
    axes: tuple[str, ...]
    if names == ("embed_tokens", "embedding"):
        # Untied, the table is only gathered from: every device keeps it whole.
        axes = ("vocab" if c.tied_embeddings else "embed", "embed")
    elif names == ("lm_head",):
        axes = ("embed", "vocab")
    elif names[-1] == "scale":
        axes = ("embed",)
    else:
        layer = names[-2]
        pair = ("embed", outputs[layer]) if layer in outputs else (inputs[layer], "embed")
        axes = pair if names[-1] == "kernel" else pair[1:]
    return axes, tuple(units[axis] for axis in axes)
