"""Experiment 1: draft lengths 2 to 5; every method's trees at each length, at most 30 slots.

Source: Jeon et al. 2024 (arXiv 2402.14160), the experiment at fixed draft length. At each length
RSD-C has every branching with at most 30 slots that does not widen on the way down; SpecTr and
RSD-S have K x L up to as many. The best tree per method and length is chosen from the rows by
`launch/plot.py`; all are kept.

Command: python launch/evaluate.py --config=configs/evaluate/experiment1.py
then     python launch/plot.py runs/experiment1-quickstart/results.jsonl
Variants, after a colon: `quickstart` (the default), `quick` (few trees and prompts), `llama2_7b`,
`llama2_13b`, `llama2_chat_7b`, `llama2_chat_13b`; see pairs.py for their data and settings.
Expected: block efficiency RSD-S >= RSD-C >= SpecTr >= SD at every length, growing with it;
accuracy relative to "ar" 1.0 within its interval.
"""

from ml_collections import ConfigDict

from configs.evaluate import pairs

MAX_SLOTS = 30

# Per length: the branchings that do not widen on the way down and have at most MAX_SLOTS slots,
# but for those with one child everywhere, which are SD.
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

# Of the variant `quick`.
QUICK_BRANCHINGS = {2: ("3-2",), 3: ("2-2-2",), 4: ("3-2-1-1",), 5: ("3-2-1-1-1",)}
QUICK_WIDTHS = {length: (4,) for length in QUICK_BRANCHINGS}


def get_config(variant: str = "quickstart") -> ConfigDict:
    """See the head of the file; the keys are those of `rsd_jax.evaluation.sweep.settings`.

    Cost: of `quickstart` 435 cells, of `quick` 51; `--dry_run` lists them with the time left. A
    Llama-2 variant has 145 cells per task.
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
