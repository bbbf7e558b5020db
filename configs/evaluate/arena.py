"""The arena: every verifier on every method's trees, at target budgets 4, 8, 16 and 30.

Each method is measured with each verifier that is lossless for its drafts. Besides, the expected
tokens of all these verifiers are computed on the trees of each run, so that they are compared on
the same trees and contexts, without the noise of acceptance.

Command: python launch/evaluate.py --config=configs/evaluate/arena.py
then     python launch/plot.py runs/arena-quickstart/results.jsonl
Variants, after a colon: `quickstart` (the default); `budgets`, one tree of each method at each
budget and 2-2-1-1, with the method's own verifier and with coupling, eight prompts at a time;
`top_p` and `budgets_top_p`, the same with top-p 0.95 at T > 0; `one_node`, trees of two, four and
six children, each method's own verifier, held against the best lossless verifier.
Expected: at T = 1, coupling above recursive rejection on all trees but chains of one token; no
differences at T = 0.
"""

from ml_collections import ConfigDict

from configs.evaluate import pairs

VARIANTS = ("quickstart", "top_p", "budgets", "budgets_top_p", "one_node")
BUDGETS = (4, 8, 16, 30)
PRODUCTS = ("2x2", "2x4", "4x2", "2x8", "4x4", "8x2", "5x6", "6x5")
BRANCHINGS = ("2-1", "2-1-1-1", "4-1", "4-1-1-1", "4-3", "2-2-2-2", "6-1-1-1-1")
VERIFIERS = ("recursive_rejection", "match", "traversal", "coupling")
# Beside VERIFIERS. For a single draft K-SEQ is recursive rejection.
MORE_VERIFIERS = dict(sd=("block",), spectr=("k_seq",), rsd_c=(), rsd_s=())

# One tree of each method at each budget; 2-2-1-1, with 14 nodes, is at none of them.
ONE_EACH = dict(
    sd=tuple(map(str, BUDGETS)),
    spectr=("2x2", "2x4", "4x4", "6x5"),
    rsd_c=("2-1", "2-1-1-1", "2-2-1-1", "4-1-1-1", "2-2-2-2"),
    rsd_s=("2x2", "2x4", "4x4", "6x5"),
)
CHILDREN = dict(spectr=("2x1", "4x1", "6x1"), rsd_c=("2", "4", "6"))
OWN_AND_COUPLING = {
    name: ("k_seq" if name == "spectr" else "recursive_rejection", "coupling") for name in ONE_EACH
}


def get_config(variant: str = "quickstart") -> ConfigDict:
    """The sweep of a variant, as described at the head of this file.

    The keys are those of `rsd_jax.evaluation.sweep.settings`.

    Cost: `quickstart` has 484 cells, `top_p` 363, `budgets` 140, `budgets_top_p` 105, `one_node`
    21. `--dry_run` lists the cells with the time left.

    Raises:
      ValueError: no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; one of {VARIANTS}")
    config = ConfigDict(pairs.settings("quickstart"))
    budgets, top_p = variant.startswith("budgets"), variant.endswith("top_p")
    config.tasks = dict(
        completion=pairs.task(
            num_prompts=48,
            max_new_tokens=80 if budgets else 128,
            # Greedy decoding is the same with and without top-p.
            temperatures=(0.3, 0.6, 1.0) if top_p else (0.0, 0.3, 0.6, 1.0),
            top_p=0.95 if top_p else 1.0,
        )
    )
    config.experiment = "arena"
    config.expected = True
    config.batches_per_call = 1  # as in the rows on record
    config.trees = dict(
        sd=tuple(map(str, BUDGETS)), spectr=PRODUCTS, rsd_c=BRANCHINGS, rsd_s=PRODUCTS
    )
    config.verifiers = {name: (*VERIFIERS, *more) for name, more in MORE_VERIFIERS.items()}
    if budgets:
        config.trees, config.verifiers = ONE_EACH, OWN_AND_COUPLING
        config.batch_size = 8
    if variant == "one_node":
        config.experiment = "one_node"
        config.trees, config.verifiers = CHILDREN, {}
        config.batch_size = 8
        config.optimum_blocks = 5
        config.tasks.completion.max_new_tokens = 24
        config.tasks.completion.temperatures = (0.3, 0.6, 1.0)
    config.out_dir = f"runs/arena-{variant}"
    config.lock()
    return config
