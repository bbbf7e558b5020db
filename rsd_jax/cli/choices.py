"""Names that flags accept. They stand here too so that `--help` and completion need not import JAX.

A test holds each against the registry that it repeats.
"""

DRAFTED = ("sd", "spectr", "rsd_c", "rsd_s", "dyspec", "beam", "mixed_beam", "static")
METHODS = ("ar", "lookup", "swift", "dynamic", *DRAFTED, *(f"self_{name}" for name in DRAFTED))
TREES = {
    "sd": "4",
    "dynamic": "8@0.4",
    "spectr": "3x4",
    "rsd_c": "2-2-1-1",
    "rsd_s": "4x4",
    "dyspec": "4x4",
    "beam": "4x4",
    "mixed_beam": "4x4",
    "static": "3-2.1.0-1",
}
"""The tree of each method if none is given; small, since a CPU pays for every node."""

DEFAULT = ("rsd_s", TREES["rsd_s"])
"""Method and tree of a pair with a draft, if no method is given."""
DEFAULT_OF_PAIR = {"smollm2": ("lookup", "4")}
"""The same for a pair that decodes faster with another method, see docs/results/smollm2."""

AUTO = "auto"
"""In place of a method: the fastest one of a calibration."""

VERIFIERS = ("recursive_rejection", "k_seq", "match", "block", "traversal", "coupling")
SHIPPED_PAIRS = ("quickstart", "quickstart_skipping")
PAIRS = (*SHIPPED_PAIRS, "smollm2")
SOURCES = ("package", "hub")
STAGES = (
    "text",
    "target",
    "draft_warm_start",
    "self_prompts",
    "generate",
    "follow_ups",
    "vocabulary",
    "draft",
    "export",
    "decode",
)
EXTRA_STAGES = ("losses", "pack", "prompts", "skipping")
BEST_BY = ("block_efficiency", "mbsu", "token_rate_ratio")
FORMATS = ("png", "pdf", "svg")
