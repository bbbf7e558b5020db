"""Experiment 2: target budgets 6, 10, 14, 21 and 30; every method's trees of exactly that size.

Source: Jeon et al. 2024 (arXiv 2402.14160), the experiment at fixed target budget. The budget is
the number of nodes that the target scores per block. SD spends the budget on length. For the other
methods the trees are those of the paper; for RSD-C they are the paper's candidates.
`launch/plot.py` chooses the best tree per method and budget from the rows; all rows are kept.

Command: python launch/evaluate.py --config=configs/evaluate/experiment2.py
then     python launch/plot.py runs/experiment2-quickstart/results.jsonl
Variants as in experiment1.py.
Expected: block efficiency RSD-S >= RSD-C >= SpecTr >= SD in most cases; SD's token rate falls as
the budget grows, because SD needs one draft pass per node, one pass after the other.
"""

from ml_collections import ConfigDict

from configs.evaluate import pairs

BUDGETS = (6, 10, 14, 21, 30)
PRODUCTS = ("2x3", "3x2", "2x5", "5x2", "2x7", "7x2", "3x7", "7x3", "5x6", "6x5")
BRANCHINGS = (
    "2-1-1",
    "2-2",
    "3-1",
    "2-1-1-1-1",
    "2-2-1",
    "5-1",
    "2-1-1-1-1-1-1",
    "2-2-1-1",
    "2-2-2",
    "7-1",
    "3-1-1-1-1-1-1",
    "3-2-1-1",
    "3-2-2",
    "7-1-1",
    "7-2",
    "2-2-2-2",
    "5-1-1-1-1-1",
    "5-5",
    "6-1-1-1-1",
    "6-4",
)

QUICK_BUDGETS = (6, 10, 14)
QUICK_PRODUCTS = ("2x3", "2x5", "2x7")
QUICK_BRANCHINGS = ("2-1-1", "2-2-1", "2-2-1-1")


def get_config(variant: str = "quickstart") -> ConfigDict:
    """The sweep of a variant, as described at the head of this file.

    The keys are those of `rsd_jax.evaluation.sweep.settings`.

    Cost: `quickstart` has 138 cells, `quick` 39, Llama-2 and OPT 46 per task. `--dry_run` lists the
    cells with the time left.
    """
    config = ConfigDict(pairs.settings(variant))
    quick = variant == "quick"
    products = QUICK_PRODUCTS if quick else PRODUCTS
    config.experiment = "experiment2"
    config.trees = dict(
        sd=tuple(str(budget) for budget in (QUICK_BUDGETS if quick else BUDGETS)),
        spectr=products,
        rsd_c=QUICK_BRANCHINGS if quick else BRANCHINGS,
        rsd_s=products,
    )
    config.verifiers = dict.fromkeys(config.trees, ())  # each method's own
    config.out_dir = f"runs/experiment2-{variant}"
    config.lock()
    return config
