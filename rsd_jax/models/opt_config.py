"""The configuration of an OPT (Zhang et al. 2022), and its config.json.

Absent keys have the values of transformers' `OPTConfig`, the sizes too.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from rsd_jax.errors import ConfigError
from rsd_jax.models.config import MOST_LAYERS
from rsd_jax.models.config_keys import INERT, PLAIN, ConfigKeys
from rsd_jax.models.config_values import EOS_KEY, flag, ids_of, ids_value, number

OFFSET = 2
"""Row of the table of positions that belongs to position 0; no position uses those before."""

KEYS = ConfigKeys(
    frozenset(
        {
            "_remove_final_layer_norm",
            "activation_function",
            "architectures",
            "bos_token_id",
            "do_layer_norm_before",
            "enable_bias",
            "eos_token_id",
            "ffn_dim",
            "hidden_size",
            "layer_norm_elementwise_affine",
            "max_position_embeddings",
            "model_type",
            "num_attention_heads",
            "num_hidden_layers",
            "tie_word_embeddings",
            "vocab_size",
            "word_embed_proj_dim",
        }
    ),
    INERT | {"activation_dropout", "dropout", "init_std", "layerdrop"},
    PLAIN,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OPTConfig:
    """Shape and constants of an OPT; hashable, as compiled programs depend on it.

    Attributes:
      vocab_size, hidden_size, num_layers, num_heads, bos_id, eos_ids: see `LlamaConfig`.
      intermediate_size: width of the MLP.
      embedding_size: width of the embedding and of the head. If it is not `hidden_size`, matrices
        project the embedding to the residual stream, and the stream to the head.
      max_positions: rows of the table of positions, without those that no position uses.
      norm_before: whether a sub-layer's norm comes before the sub-layer; if not, the norm comes
        after the residual sum.
      remove_final_norm: whether the norm before the head is left out although `norm_before`; an
        old form of files.
      bias: whether the dense layers of attention and MLP have biases.
      norm_weights: whether the norms have scales and biases.
      tied_embeddings: whether the output head is the input embedding.

    Raises:
      ConfigError: sizes are inconsistent; sizes are named as in config.json.
    """

    model_type: ClassVar[str] = "opt"
    architecture: ClassVar[str] = "OPTForCausalLM"

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    embedding_size: int
    max_positions: int = 2048
    norm_before: bool = True
    remove_final_norm: bool = False
    bias: bool = True
    norm_weights: bool = True
    tied_embeddings: bool = True
    bos_id: int | None = 2
    eos_ids: tuple[int, ...] = (2,)

    def __post_init__(self):
        sizes = {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "ffn_dim": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "word_embed_proj_dim": self.embedding_size,
            "max_position_embeddings": self.max_positions,
        }
        for name, value in sizes.items():
            if not value > 0:
                raise ConfigError(f"{name}={value} must be above 0")
        if self.num_layers > MOST_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_layers} must be at most {MOST_LAYERS}")
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size={self.hidden_size} must be a multiple of "
                f"num_attention_heads={self.num_heads}"
            )

    @property
    def head_dim(self) -> int:
        """Width of a head, K."""
        return self.hidden_size // self.num_heads

    @property
    def num_kv_heads(self) -> int:
        """Key/value heads, H."""
        return self.num_heads

    @property
    def projects(self) -> bool:
        """Whether the embedding has another width than the residual stream."""
        return self.embedding_size != self.hidden_size

    @property
    def final_norm(self) -> bool:
        """Whether there is a norm before the head."""
        return self.norm_before and not self.remove_final_norm

    @property
    def attention_projections(self) -> dict[str, tuple[int, int]]:
        """Shapes [out, in] of the dense layers of attention, by their names."""
        square = (self.hidden_size, self.hidden_size)
        return dict.fromkeys(("q_proj", "k_proj", "v_proj", "out_proj"), square)

    @property
    def mlp_projections(self) -> dict[str, tuple[int, int]]:
        """Shapes [out, in] of the dense layers of the MLP, by their names."""
        d, m = self.hidden_size, self.intermediate_size
        return {"fc1": (m, d), "fc2": (d, m)}

    def has_bias(self, projection: str) -> bool:
        """Whether the dense layer of this name has a bias."""
        return self.bias and projection not in ("project_in", "project_out")

    @property
    def _norm(self) -> int:
        return 2 * self.hidden_size * self.norm_weights

    @property
    def attention_parameters(self) -> int:
        """Number of parameters of one attention sub-layer, its norm included."""
        shapes = self.attention_projections.values()
        return self._norm + sum(o * (i + self.bias) for o, i in shapes)

    @property
    def mlp_parameters(self) -> int:
        """Number of parameters of one MLP sub-layer, its norm included."""
        return self._norm + sum(o * (i + self.bias) for o, i in self.mlp_projections.values())

    @property
    def cache_numbers(self) -> int:
        """Scalars of one position in the cache of one layer."""
        return 2 * self.hidden_size

    @property
    def position_parameters(self) -> int:
        """Number of parameters of the table of positions."""
        return (self.max_positions + OFFSET) * self.hidden_size

    @property
    def num_parameters(self) -> int:
        """Number of scalar parameters, a tied head counted once."""
        tables = self.vocab_size * self.embedding_size * (1 if self.tied_embeddings else 2)
        projections = 2 * self.hidden_size * self.embedding_size * self.projects
        layers = self.num_layers * (self.attention_parameters + self.mlp_parameters)
        norm = self._norm * self.final_norm
        return layers + norm + projections + tables + self.position_parameters

    @property
    def num_parameters_read(self) -> int:
        """Parameters that a decoding step reads: all but tables that are only gathered from."""
        table = 0 if self.tied_embeddings else self.vocab_size * self.embedding_size
        return self.num_parameters - table - self.position_parameters


def read(raw: Mapping[str, Any]) -> OPTConfig:
    """Builds an `OPTConfig` from the contents of a Hugging Face config.json.

    Warns of keys that transformers does not read for OPT.

    Raises:
      ConfigError: a value has the wrong type, or would change the model's outputs and is not
        supported. The message names the key; if values are not supported, all such keys.
    """
    refused = KEYS.refusals(raw, OPTConfig.model_type, OPTConfig.architecture)
    if raw.get("activation_function", "relu") != "relu":
        name = raw["activation_function"]
        refused.append(f"activation_function={name!r} is not supported; only 'relu' is")
    if refused:
        raise ConfigError("; ".join(refused))
    KEYS.warn_of_unknown(raw)
    hidden = number(raw, "hidden_size", int, 768)
    bos = ids_of(raw, "bos_token_id", 2)
    return OPTConfig(
        vocab_size=number(raw, "vocab_size", int, 50272),
        hidden_size=hidden,
        intermediate_size=number(raw, "ffn_dim", int, 3072),
        num_layers=number(raw, "num_hidden_layers", int, 12),
        num_heads=number(raw, "num_attention_heads", int, 12),
        embedding_size=number(raw, "word_embed_proj_dim", int, hidden),
        max_positions=number(raw, "max_position_embeddings", int, 2048),
        norm_before=flag(raw, "do_layer_norm_before", True),
        remove_final_norm=flag(raw, "_remove_final_layer_norm"),
        bias=flag(raw, "enable_bias", True),
        norm_weights=flag(raw, "layer_norm_elementwise_affine", True),
        tied_embeddings=flag(raw, "tie_word_embeddings", True),
        bos_id=bos[0] if bos else None,
        eos_ids=ids_of(raw, EOS_KEY, 2),
    )


def write(config: OPTConfig) -> dict[str, Any]:
    """The config.json of an OPT for transformers 4 and 5."""
    return {
        "architectures": [config.architecture],
        "model_type": config.model_type,
        "activation_function": "relu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "ffn_dim": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "word_embed_proj_dim": config.embedding_size,
        "max_position_embeddings": config.max_positions,
        "do_layer_norm_before": config.norm_before,
        "_remove_final_layer_norm": config.remove_final_norm,
        "enable_bias": config.bias,
        "layer_norm_elementwise_affine": config.norm_weights,
        "tie_word_embeddings": config.tied_embeddings,
        "bos_token_id": config.bos_id,
        EOS_KEY: ids_value(config.eos_ids),
    }
