"""The static configuration of a Llama; `hf_config` reads and writes config.json."""

import dataclasses
from typing import ClassVar

from rsd_jax.errors import ConfigError

ROPE_KINDS = ("default", "linear", "llama3")
MOST_LAYERS = 10_000
"""Far more than any model has; the tensors of all layers are listed before files are opened."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary position embedding (Su et al. 2021) and its context-extension scalings.

    Attributes:
      kind: "default", "linear" (positions divided by `factor`) or "llama3" (Llama 3.1's
        frequency-dependent scaling).
      theta: the base of the geometric series of wavelengths.
      factor: the context extension factor; unused by "default".
      low_freq_factor, high_freq_factor, original_max_position: of "llama3" only.

    Raises:
      ConfigError: the kind is unknown, or the frequencies are not defined for the values.
    """

    kind: str = "default"
    theta: float = 10000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192

    def __post_init__(self):
        if self.kind not in ROPE_KINDS:
            raise ConfigError(
                f"rope_type={self.kind!r} is not supported; supported: {list(ROPE_KINDS)}"
            )
        if not (self.theta > 0 and self.factor > 0):
            raise ConfigError(
                f"rope_theta={self.theta} and the rope factor={self.factor} must be above 0"
            )
        if self.kind == "llama3" and not (
            0 < self.low_freq_factor < self.high_freq_factor and self.original_max_position > 0
        ):
            raise ConfigError(
                f"llama3 rope needs 0 < low_freq_factor={self.low_freq_factor} < "
                f"high_freq_factor={self.high_freq_factor} and "
                f"original_max_position_embeddings={self.original_max_position} above 0"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Shape and constants of a Llama-class decoder; hashable, as compiled programs depend on it.

    Attributes:
      vocab_size: number of token ids, V.
      hidden_size: width of the residual stream.
      intermediate_size: width of the gated MLP.
      num_layers: number of decoder layers.
      num_heads: query heads.
      num_kv_heads: key/value heads, H; divides `num_heads`.
      head_dim: width of a head, K; even.
      max_positions: longest sequence that the model supports, in tokens.
      norm_eps: epsilon of the RMS normalisation.
      rope: rotary embedding.
      attention_bias, mlp_bias: whether the projections of this kind have a bias; see `has_bias`.
      tied_embeddings: whether the output head is the input embedding.
      bos_id: id that opens a document, or None.
      eos_ids: ids that end a document; may be empty.

    Raises:
      ConfigError: sizes are inconsistent; sizes are named as in config.json.
    """

    model_type: ClassVar[str] = "llama"
    architecture: ClassVar[str] = "LlamaForCausalLM"
    head_norms: ClassVar[bool] = False
    """Whether the queries and keys of each head are normalised before the rotation (Qwen3)."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int = 4096
    norm_eps: float = 1e-5
    rope: RopeConfig = RopeConfig()
    attention_bias: bool = False
    mlp_bias: bool = False
    tied_embeddings: bool = False
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self):
        sizes = {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_positions,
            "rms_norm_eps": self.norm_eps,
        }
        for name, value in sizes.items():
            if not value > 0:
                raise ConfigError(f"{name}={value} must be above 0")
        if self.num_layers > MOST_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_layers} must be at most {MOST_LAYERS}")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_attention_heads={self.num_heads} must be a multiple of "
                f"num_key_value_heads={self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim={self.head_dim} must be even for rotary embeddings")

    @property
    def projections(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Shapes [out, in] of the dense layers of each kind of sub-layer, by their names."""
        d, m = self.hidden_size, self.intermediate_size
        q, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "self_attn": {"q_proj": (q, d), "k_proj": (kv, d), "v_proj": (kv, d), "o_proj": (d, q)},
            "mlp": {"gate_proj": (m, d), "up_proj": (m, d), "down_proj": (d, m)},
        }

    def has_bias(self, projection: str) -> bool:
        """Whether the dense layer of this name has a bias."""
        return self.attention_bias if projection in self.projections["self_attn"] else self.mlp_bias

    def _sublayer(self, kind: str) -> int:
        """Number of parameters of a sub-layer's dense layers and of the norm before them."""
        layers = self.projections[kind].items()
        return self.hidden_size + sum(o * (i + self.has_bias(name)) for name, (o, i) in layers)

    @property
    def attention_parameters(self) -> int:
        """Number of parameters of one attention sub-layer, the norm before it included."""
        return self._sublayer("self_attn") + 2 * self.head_dim * self.head_norms

    @property
    def mlp_parameters(self) -> int:
        """Number of parameters of one MLP sub-layer, the norm before it included."""
        return self._sublayer("mlp")

    @property
    def cache_numbers(self) -> int:
        """Scalars of one position in the cache of one layer."""
        return 2 * self.num_kv_heads * self.head_dim

    @property
    def num_parameters(self) -> int:
        """Number of scalar parameters, a tied head counted once."""
        tables = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        layer = self.attention_parameters + self.mlp_parameters
        return self.num_layers * layer + self.hidden_size + tables

    @property
    def num_parameters_read(self) -> int:
        """Parameters that a decoding step reads: all but an untied input table (a gather)."""
        table = 0 if self.tied_embeddings else self.vocab_size * self.hidden_size
        return self.num_parameters - table
