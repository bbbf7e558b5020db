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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/rsd-jax/rsd_jax/blob/main/notebooks/swift.ipynb)

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
# # SWIFT: a target that drafts for itself
#
# SWIFT ([Xia et al. 2025](https://arxiv.org/abs/2410.06916)) needs no draft model: the target
# drafts with some of its sub-layers (attentions and MLPs) skipped, and verifies with all of them.
# Which sub-layers to skip is searched for while it decodes. No skip set changes the law of the
# output, only the speed.

# %%
from rsd_jax.records.hardware import Hardware, current_versions

print(Hardware.current())
print(current_versions())

# %% [markdown]
# ## A search, live
#
# The target that ships has 8 layers. The first and the last are never skipped, so there are 12
# switches, and with ratio 0.67 a set has 8 of them on. Between two blocks one *candidate* set is
# scored: its **matchness** is the share of the first 32 tokens of the answer that the draft with
# that set would have guessed. The best set so far is the one in use. Candidates are random; every
# tenth is suggested by Bayesian optimisation.
#
# The prompts are translations of number words, at temperature 0.

# %%
import rsd_jax
from rsd_jax.search import SearchConfig, SearchState, generate_with_search
from rsd_jax.tasks import get_task

pair = rsd_jax.load_pair("quickstart")
method = rsd_jax.build_method("swift", length=8, greedy_counts=(1, 2, 3, 3))
texts = [prompt.text for prompt in get_task("number_words").test_prompts(6)]
prompts = rsd_jax.encode_prompts(pair.tokenizer, texts)
options = {"max_new_tokens": 128, "temperature": 0, "batch_size": 1, "eos_id": pair.eos_ids}

config = SearchConfig(ratio=0.67, bayes_every=10, max_score=0.99, max_iterations=40)
start = SearchState.new(pair.target, config)
run = generate_with_search(method, pair.target, prompts, start, **options)
state = run.state
print(pair.tokenizer.decode(run.result.tokens[0], skip_special_tokens=True))
print(f"{state.iterations} candidates, best matchness {state.best_score:.2f}: {state.stopped}")

# %% [markdown]
# ## Matchness, candidate by candidate

# %%
# %matplotlib inline
import numpy as np
from matplotlib import pyplot as plt

scores = np.asarray([one.score for one in run.iterations])
suggested = np.asarray([one.suggested for one in run.iterations])
number = np.arange(1, len(scores) + 1)
figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
axes.step(number, np.maximum.accumulate(scores), where="post", color="#1f77b4", label="set in use")
axes.plot(number[~suggested], scores[~suggested], "o", color="#8c8c8c", label="random candidate")
axes.plot(number[suggested], scores[suggested], "D", color="#e06500", label="suggested candidate")
axes.set(xlabel="candidate", ylabel="matchness", ylim=(0, 1.03))
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## The sets as a picture of layers
#
# A column is a set, a row a sub-layer. On the left all candidates, worst to best; on the right the
# set that the search started from (every second layer) and the one that it found. Dark means
# skipped.

# %%
from rsd_jax.core.skips import from_switches

layers = pair.target.model.num_layers
labels = [f"{layer} {part}" for layer in range(layers) for part in ("attention", "MLP")]
switched = np.zeros_like(state.points, bool)  # a suggestion's point: its largest coordinates are on
for place, (point, one) in enumerate(zip(state.points, run.iterations, strict=True)):
    switched[place, np.argsort(-point, kind="stable")[: one.skipped]] = True
order = np.argsort(state.scores, kind="stable")
candidates = np.stack([from_switches(switched[place]).reshape(-1) for place in order], axis=1)
two = np.stack([start.skips.reshape(-1), state.skips.reshape(-1)], axis=1)

figure, (left, right) = plt.subplots(
    1, 2, figsize=(10, 4.4), width_ratios=(len(order), 6), layout="constrained"
)
for axes, sets in ((left, candidates), (right, two)):
    axes.imshow(sets, cmap="Greys", vmax=1.4, aspect="auto", interpolation="none")
    axes.set_yticks(np.arange(len(labels)), labels, fontsize=8)
    axes.hlines(np.arange(1.5, len(labels) - 1, 2), *axes.get_xlim(), color="#bbbbbb", lw=0.6)
left.set_xticks([0, len(order) - 1], [f"{state.scores[order[at]]:.2f}" for at in (0, -1)])
left.set_xlabel("candidates by matchness")
right.set_xticks([0, 1], ["start", "found"])
plt.show()

# %% [markdown]
# The picture shows what the model can spare. The best candidates, at the right end, all keep the
# attention of layer 4, and nearly all of the worst skip it.
#
# ## What the set is worth
#
# The same prompts, decoded with the set of the start and with the set found, without searching.
# Both give the tokens of the target. The set that was found skips more, so its passes are cheaper,
# and drafts a little worse.

# %%
answers = {}
for name, skips in {"start": start.skips, "found": state.skips}.items():
    answers[name] = rsd_jax.generate(method, pair.target, None, prompts, skips=skips, **options)
    efficiency = answers[name].stats.block_efficiency
    print(f"{name}: {skips.sum()} of 12 skipped, block efficiency {efficiency:.2f}")
print("the same tokens:", answers["start"].tokens == answers["found"].tokens)

# %% [markdown]
# A score over 32 positions is a coarse guess, and the best of many guesses is an optimistic one.
# What limits self-drafting is the model: a target can spare as much as it was trained to spare.
#
# ## A target that was trained for it
#
# `quickstart_skipping` is the same target with a low-rank adapter, trained with its layers dropped
# at random. It drafts with 11 of its 12 inner sub-layers skipped. Nothing is compiled again,
# because the adapter is part of the weights and the skip set is data.

# %%
adapted = rsd_jax.load_pair("quickstart_skipping")
config = SearchConfig(ratio=0.92, max_score=0.99, max_iterations=40)
begin = SearchState.new(adapted.target, config)
trained = generate_with_search(method, adapted.target, prompts, begin, **options)
print(f"{trained.state.skips.sum()} of 12 skipped, matchness {trained.state.best_score:.2f}")
print(f"block efficiency {trained.result.stats.block_efficiency:.2f}")

# %% [markdown]
# ## A block
#
# SWIFT drafts a chain for as long as the draft is confident, with siblings where it is less so.

# %%
from rsd_jax.reporting.blocks import block_figure

recorded = rsd_jax.generate(
    method,
    adapted.target,
    None,
    prompts[:1],
    skips=trained.state.skips,
    record_blocks=True,
    **options,
)
widest = max(recorded.block_records[0], key=lambda block: int(block.valid.sum()))
block_figure(widest, adapted.tokenizer)

# %% [markdown]
# `state.save("skips.json")` keeps a search; `SearchState.load` goes on with it. Whether
# self-drafting pays is worked out in
# [docs/evaluation.md](../docs/evaluation.md#when-self-drafting-pays), and what the adapted target
# reaches along a stream is in [docs/results](../docs/results/README.md#swift-along-a-stream).
