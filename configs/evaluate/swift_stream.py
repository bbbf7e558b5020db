"""SWIFT on a stream of prompts: the search goes on from prompt to prompt until it stops for good.

Source: Xia et al. 2025 (arXiv 2410.06916), the figure of speed-up against the number of instances.
The settings of the search are the published ones, except for the skip ratio, which suits a small
target, and for the changes of a variant.
Command: python launch/stream.py --config=configs/evaluate/swift_stream.py
then     python launch/plot.py runs/swift_stream-published/results.jsonl
Expected: on two cores of an AMD EPYC 0.76 times the rate of autoregressive decoding with the
published tree, 0.97 with the narrow one, 1.10 with a chain, 0.99 with the long search, and 1.76
with the target that was trained for it (docs/results/README.md).
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from configs.evaluate import pairs, smollm2
from rsd_jax.search import SearchConfig

# Trees. `greedy_counts` (at T = 0) and `counts` (at T > 0) are the nodes of a step, by confidence
# (> .95, > .8, > .5, less).
PUBLISHED = dict(greedy_counts=(3, 5, 8, 10), counts=(1, 3, 5, 10), length=25, stop_below=0.8)
NARROW = PUBLISHED | dict(greedy_counts=(1, 1, 2, 3), counts=(1, 1, 2, 3))
CHAIN = dict(greedy_counts=(1, 1, 1, 1), counts=(1, 1, 1, 1), length=12, stop_below=0.5)
# Per variant: the pair, the changes to the published settings of the search, and the tree.
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = dict(
    published=("quickstart", dict(ratio=0.5), PUBLISHED),
    narrow=("quickstart", dict(ratio=0.5), NARROW),
    chain=("quickstart", dict(ratio=0.5), CHAIN),
    # A score is a share of 32 positions, so only a perfect score is above 0.99.
    search=("quickstart", dict(ratio=0.67, max_score=0.99), CHAIN),
    adapted=("quickstart_skipping", dict(ratio=0.92, max_score=0.99), CHAIN | dict(stop_below=0.8)),
    smollm2=("smollm2", dict(ratio=0.2, max_score=0.99), CHAIN | dict(length=4, stop_below=0.6)),
)


def get_config(variant: str = "published") -> ConfigDict:
    """The stream of a variant; keys as in `StreamSettings`.

    A variant is named after a colon. `published`: trees as published. `narrow`: fewer siblings.
    `chain`: no siblings, and up to 12 tokens. `narrow` and `chain` suit a CPU, where a wide pass
    takes as long as many narrow ones. `search`: a chain with 8 of 12 sub-layers skipped, and a
    search that goes on for long. `adapted`: a chain with 11 of 12 sub-layers skipped, by the target
    that was trained to have its sub-layers skipped. These five have a target that ships, on
    `number_words`. `smollm2`: a chain of 4 with 11 of 60 sub-layers skipped, by
    SmolLM2-135M-Instruct on questions of all categories of Spec-Bench.

    For another target, set --config.pair.shipped= --config.pair.target=/models/Llama-2-13b-hf
    --config.search.ratio=0.45, and a task that suits the target.

    Raises:
      ValueError: no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; one of {tuple(VARIANTS)}")
    name, search, tree = VARIANTS[variant]
    config = ConfigDict()
    config.pair_name = ""  # that of the pair that ships, or of the target's folder
    config.pair = pairs.pair(shipped=name)
    config.task_name = "number_words"
    task = dict(num_prompts=120, max_new_tokens=128, temperatures=(0.0,))
    if variant == "smollm2":
        config.pair = pairs.pair(shipped=name, source="package", template="chat")
        config.task_name = "spec_bench"
        task |= dict(spread=True, path=smollm2.QUESTIONS, num_prompts=60)  # of all categories
    config.task = pairs.task(**task)
    config.method = dict(name="swift", **tree)
    config.search = dataclasses.asdict(SearchConfig(**search))
    config.use_search = ""
    config.seed = 0
    config.phases = True
    config.mesh = ()  # sizes of the axes data and model; empty: one device
    config.out_dir = f"runs/swift_stream-{variant}"
    config.lock()
    return config
