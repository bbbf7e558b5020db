"""The pairs and tasks of the experiments, by variant.

The numbers of prompts, the lengths and the templates of the published runs are not known; ours are
our choice. The temperatures are the published ones: 0.3 for translation and summaries, 1.0 with
top-p 0.95 for Dolly. The variants of Llama-2 and OPT have not been run, for lack of weights and an
accelerator. To run one, set the directories of its models, e.g.
--config.pairs.llama2_7b.target=/models/Llama-2-7b-hf.
"""

from typing import Any

from ml_collections.config_dict import placeholder

from rsd_jax.text.chat import CHAT_DATE

VARIANTS = (
    "quickstart",
    "quick",
    "llama2_7b",
    "llama2_13b",
    "llama2_chat_7b",
    "llama2_chat_13b",
    "llama2_70b",
    "llama2_chat_70b",
    "opt_13b_125m",
    "opt_13b_350m",
)


_ASSUMED = {"7b": 90.0, "13b": 45.0, "70b": 57.0, "125m": 45.0, "350m": 45.0}


def settings(variant: str) -> dict[str, Any]:
    """The part of a configuration that is the same in both experiments, for a variant.

    Raises:
      ValueError: no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; one of {VARIANTS}")
    shared = dict(
        seeds=(0,),
        batch_size=1,
        batches_per_call=4,  # used with a batch_size above 1
        cells_together=8,
        mesh=(),
        draft_temperature=placeholder(float),
        draft_top_k=placeholder(int),
    )
    return shared | (_offline(variant) if variant.startswith("quick") else _published(variant))


def _offline(variant: str) -> dict[str, Any]:
    """The pair that ships, on the tasks that need no download."""
    prompts = (12, 16, 8) if variant == "quick" else (40, 96, 24)
    sizes = dict(zip(("number_words", "docstrings", "completion"), prompts, strict=True))
    lengths = dict(number_words=128, docstrings=48, completion=64)
    return dict(
        pairs=dict(quickstart=pair(shipped="quickstart")),
        tasks={name: task(num_prompts=sizes[name], max_new_tokens=lengths[name]) for name in sizes},
        phase_repeats=0,
        # For one core of an AMD EPYC; after the first task, most programs are compiled already.
        estimate=dict(compile_seconds=5.0, tokens_per_second=250.0),
    )


def _published(variant: str) -> dict[str, Any]:
    """A published pair: base models on two tasks, chat models on three.

    Llama-2 has a draft of 115M parameters, OPT the draft that ends the variant's name. Llama-2-70B
    is split over a mesh; docs/scaling.md says which slices hold it.
    """
    target, draft, chat = variant, "llama2_115m", "chat" in variant
    if variant.startswith("opt"):
        target, _, size = variant.rpartition("_")
        draft = f"opt_{size}"
    tasks = dict(
        wmt18_de_en=task(num_prompts=100, max_new_tokens=128),
        xsum=task(num_prompts=100, max_new_tokens=128),
    )
    if chat:
        tasks["dolly"] = task(num_prompts=100, max_new_tokens=128, temperatures=(1.0,), top_p=0.95)
    source = pair(
        target=f"./models/{target}",
        draft=f"./models/{draft}",
        dtype="bfloat16",
        template="chat" if chat else "base",
    )
    return dict(
        pairs={variant: source},
        tasks=tasks,
        phase_repeats=5,
        # Assumed, not measured: 60 % of the rate that 2 TB/s allow, with and without drafting; for
        # 70B, of eight chips of 1.6 TB/s.
        estimate=dict(compile_seconds=60.0, tokens_per_second=_ASSUMED[variant.split("_")[-1]]),
    ) | (dict(mesh=(1, 8)) if "70b" in variant else {})


def pair(**values: Any) -> dict[str, Any]:
    """The settings of a pair, see `PairSource`; `values` replace the defaults."""
    places = ("shipped", "source", "target", "draft", "adapter", "tokenizer")
    unset = dict.fromkeys(places, "") | dict(template=placeholder(str))
    chat = dict(chat_template_kwargs=dict(), chat_date=CHAT_DATE)
    draft = dict(share_tokens=False, replicate_draft=False)
    return unset | chat | draft | dict(dtype="float32") | values


def task(**values: Any) -> dict[str, Any]:
    """The settings of a task, see `TaskSettings`; `values` replace the defaults.

    `task` names the task if its key in the configuration does not.
    """
    unset = dict(top_k=placeholder(int), top_p=1.0, task="", spread=False)
    unset |= dict(follow_ups=False, parse_special=False)
    unset |= {name: placeholder(str) for name in ("category", "path", "data_dir", "metric")}
    return unset | dict(temperatures=(0.3,)) | values
