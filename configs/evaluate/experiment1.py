"""Experiment 1: draft lengths 2 to 5; every method's trees at each length, at most 30 slots.

Source: Jeon et al. 2024 (arXiv 2402.14160), the experiment at fixed draft length. At each length,
RSD-C has every branching with at most 30 slots that does not widen on the way down, and SpecTr and
RSD-S have every K x L of at most 30 slots. `launch/plot.py` chooses the best tree per method and
length from the rows; all rows are kept.

Command: python launch/evaluate.py --config=configs/evaluate/experiment1.py
then     python launch/plot.py runs/experiment1-quickstart/results.jsonl
Variants, after a colon: `quickstart` (the default), `quick` (few trees and prompts), `llama2_7b`,
`llama2_13b`, `llama2_70b`, their chat models (`llama2_chat_7b` and so on), `opt_13b_125m`,
`opt_13b_350m`; see pairs.py for their data and settings.
Expected: block efficiency RSD-S >= RSD-C >= SpecTr >= SD at every length, growing with the length;
accuracy relative to "ar" 1.0 within its interval.
"""

from ml_collections import ConfigDict

from configs.evaluate import pairs

MAX_SLOTS = 30

# Per length: the branchings that do not widen on the way down and have at most MAX_SLOTS slots,
# except for the branching with one child everywhere, which is SD.
BRANCHINGS = {
    2: (
        "2-1",
        "2-2",
        "3-1",
        "3-2",
        "3-3",
        "4-1",
        "4-2",
        "4-3",
        "4-4",
        "5-1",
        "5-2",
        "5-3",
        "5-4",
        "5-5",
        "6-1",
        "6-2",
        "6-3",
        "6-4",
        "7-1",
        "7-2",
        "7-3",
        "8-1",
        "8-2",
        "9-1",
        "9-2",
        "10-1",
        "10-2",
        "11-1",
        "12-1",
        "13-1",
        "14-1",
        "15-1",
    ),
    3: (
        "2-1-1",
        "2-2-1",
        "2-2-2",
        "3-1-1",
        "3-2-1",
        "3-2-2",
        "3-3-1",
        "3-3-2",
        "4-1-1",
        "4-2-1",
        "4-2-2",
        "4-3-1",
        "5-1-1",
        "5-2-1",
        "6-1-1",
        "6-2-1",
        "7-1-1",
        "8-1-1",
        "9-1-1",
        "10-1-1",
    ),
    4: (
        "2-1-1-1",
        "2-2-1-1",
        "2-2-2-1",
        "2-2-2-2",
        "3-1-1-1",
        "3-2-1-1",
        "3-3-1-1",
        "4-1-1-1",
        "4-2-1-1",
        "5-1-1-1",
        "6-1-1-1",
        "7-1-1-1",
    ),
    5: (
        "2-1-1-1-1",
        "2-2-1-1-1",
        "2-2-2-1-1",
        "3-1-1-1-1",
        "3-2-1-1-1",
        "4-1-1-1-1",
        "5-1-1-1-1",
        "6-1-1-1-1",
    ),
}
WIDTHS = {length: tuple(range(2, MAX_SLOTS // length + 1)) for length in BRANCHINGS}

# The trees of the variant `quick`.
QUICK_BRANCHINGS = {2: ("3-2",), 3: ("2-2-2",), 4: ("3-2-1-1",), 5: ("3-2-1-1-1",)}
QUICK_WIDTHS = {length: (4,) for length in QUICK_BRANCHINGS}


def get_config(variant: str = "quickstart") -> ConfigDict:
    """The sweep of a variant, as described at the head of this file.

    The keys are those of `rsd_jax.evaluation.sweep.settings`.

    Cost: `quickstart` has 435 cells, `quick` 51, Llama-2 and OPT 145 per task. `--dry_run` lists
    the cells with the time left.
    """
    config = ConfigDict(pairs.settings(variant))
    quick = variant == "quick"
    branchings = QUICK_BRANCHINGS if quick else BRANCHINGS
    widths = QUICK_WIDTHS if quick else WIDTHS
    products = [f"{k}x{length}" for length in branchings for k in widths[length]]
    config.experiment = "experiment1"
    config.trees = dict(
        sd=tuple(str(length) for length in branchings),
        spectr=tuple(products),
        rsd_c=tuple(tree for trees in branchings.values() for tree in trees),
        rsd_s=tuple(products),
    )
    config.verifiers = dict.fromkeys(config.trees, ())  # each method's own
    config.out_dir = f"runs/experiment1-{variant}"
    config.lock()
    return config
