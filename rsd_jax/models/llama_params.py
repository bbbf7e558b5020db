"""The parameters of a Llama: their names in a checkpoint, shapes, and axes on a mesh."""

from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.family import Axes, Path, TensorSpec
from rsd_jax.models.weight_files import HEAD, TABLE_END

TABLE = f"model.{TABLE_END}"


def tensor_specs(config: LlamaConfig) -> dict[str, TensorSpec]:
    """The tensors of a checkpoint of `config`, by Hugging Face's names."""
    d = config.hidden_size
    specs = {TABLE: TensorSpec(("embed_tokens", "embedding"), (config.vocab_size, d), False)}
    for i in range(config.num_layers):
        layer, prefix = f"layers_{i}", f"model.layers.{i}"
        for block, projections in config.projections.items():
            for name, shape in projections.items():
                path, key = (layer, block, name), f"{prefix}.{block}.{name}"
                specs[f"{key}.weight"] = TensorSpec((*path, "kernel"), shape, True)
                if config.has_bias(name):
                    specs[f"{key}.bias"] = TensorSpec((*path, "bias"), shape[:1], False)
        for name in ("q_norm", "k_norm") if config.head_norms else ():
            specs[f"{prefix}.self_attn.{name}.weight"] = TensorSpec(
                (layer, "self_attn", name, "scale"), (config.head_dim,), False
            )
        for name in ("input_layernorm", "post_attention_layernorm"):
            specs[f"{prefix}.{name}.weight"] = TensorSpec((layer, name, "scale"), (d,), False)
    specs["model.norm.weight"] = TensorSpec(("norm", "scale"), (d,), False)
    if not config.tied_embeddings:
        specs[HEAD] = TensorSpec(("lm_head",), (config.vocab_size, d), True)
    return specs


def param_axes(config: LlamaConfig, names: Path) -> Axes:
    """Logical axes of one parameter and, for each axis, the number of units; no unit is split.

    Args:
      config: of the model.
      names: path of the parameter, e.g. ("layers_0", "self_attn", "q_proj", "kernel").

    Returns:
      (axes, sizes) for `MeshLayout.spec`. The units of projections to and from heads are key/value
      heads, so that no group of query heads is split.
    """
    c = config
    # Query heads stay with their key/value head, so that a group is never split.
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
    if names[-2:-1] in (("q_norm",), ("k_norm",)):
        return (None,), (
            c.head_dim,
        )  # the same for all heads, so every device keeps all of the norm
    if names == ("embed_tokens", "embedding"):
        # An untied table is only gathered from, so every device keeps the whole table.
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
