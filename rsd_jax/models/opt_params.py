"""The parameters of an OPT: their names in a checkpoint, shapes, and axes on a mesh."""

from rsd_jax.models.family import Axes, Path, TensorSpec
from rsd_jax.models.opt_config import OFFSET, OPTConfig
from rsd_jax.models.weight_files import HEAD

_PREFIX = "model.decoder"
_OUTPUTS = {"q_proj": "heads", "k_proj": "heads", "v_proj": "heads", "fc1": "mlp"}
_INPUTS = {"out_proj": "heads", "fc2": "mlp"}


def tensor_specs(config: OPTConfig) -> dict[str, TensorSpec]:
    """The tensors of a checkpoint of `config`, by Hugging Face's names."""
    c, specs = config, {}

    def add(name: str, *path: str, shape: tuple[int, ...]) -> None:
        transposed = path[-1] in ("kernel", "lm_head")
        specs[name] = TensorSpec(path, shape, transposed)

    def add_norm(key: str, *path: str) -> None:
        if c.norm_weights:
            add(f"{key}.weight", *path, "scale", shape=(c.hidden_size,))
            add(f"{key}.bias", *path, "bias", shape=(c.hidden_size,))

    def add_dense(key: str, *path: str, shape: tuple[int, int]) -> None:
        add(f"{key}.weight", *path, "kernel", shape=shape)
        if c.has_bias(path[-1]):
            add(f"{key}.bias", *path, "bias", shape=shape[:1])

    for name, rows, width in (
        ("embed_tokens", c.vocab_size, c.embedding_size),
        ("embed_positions", c.max_positions + OFFSET, c.hidden_size),
    ):
        add(f"{_PREFIX}.{name}.weight", name, "embedding", shape=(rows, width))
    if c.projects:
        inner, outer = c.hidden_size, c.embedding_size
        add_dense(f"{_PREFIX}.project_in", "project_in", shape=(inner, outer))
        add_dense(f"{_PREFIX}.project_out", "project_out", shape=(outer, inner))
    for i in range(c.num_layers):
        layer, key = f"layers_{i}", f"{_PREFIX}.layers.{i}"
        for name, shape in c.attention_projections.items():
            add_dense(f"{key}.self_attn.{name}", layer, "self_attn", name, shape=shape)
        for name, shape in c.mlp_projections.items():
            add_dense(f"{key}.{name}", layer, "mlp", name, shape=shape)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            add_norm(f"{key}.{name}", layer, name)
    if c.final_norm:
        add_norm(f"{_PREFIX}.final_layer_norm", "final_layer_norm")
    if not c.tied_embeddings:
        add(HEAD, "lm_head", shape=(c.vocab_size, c.embedding_size))
    return specs


def param_axes(config: OPTConfig, names: Path) -> Axes:
    """Logical axes of one parameter and, for each axis, the number of units; no unit is split.

    Args:
      config: of the model.
      names: path of the parameter, e.g. ("layers_0", "self_attn", "q_proj", "kernel").

    Returns:
      (axes, sizes) for `MeshLayout.spec`.
    """
    units = {
        "heads": config.num_heads,
        "mlp": config.intermediate_size,
        "vocab": config.vocab_size,
        # Never split, see `LOGICAL_TO_MESH`.
        "embed": config.hidden_size,
        "positions": config.max_positions + OFFSET,
    }
    layer = names[-2] if len(names) > 1 else ""
    axes: tuple[str, ...]
    if layer == "embed_tokens":
        # An untied table is only gathered from, so every device keeps the whole table.
        axes = ("vocab" if config.tied_embeddings else "embed", "embed")
    elif layer == "embed_positions":
        axes = ("positions", "embed")
    elif names == ("lm_head",):
        axes = ("embed", "vocab")
    elif names[-1] == "kernel":
        axes = (_INPUTS.get(layer, "embed"), _OUTPUTS.get(layer, "embed"))
    else:
        axes = (_OUTPUTS.get(layer, "embed"),)
    return axes, tuple(units[axis] for axis in axes)
