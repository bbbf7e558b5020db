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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/rsd-jax/rsd_jax/blob/main/notebooks/tree_anatomy.ipynb)

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
# # Anatomy of a tree
#
# One *block* of speculative decoding: a draft proposes a tree of tokens, the target scores all of
# them in one pass, and a verifier walks down from the root, accepts some, and emits one more token.
# This notebook draws such blocks: one of each method, RSD-C against RSD-S in the same context, what
# replaces rejected tokens, and the same tree under two verifiers.

# %%
from rsd_jax.records.hardware import Hardware, current_versions

print(Hardware.current())
print(current_versions())

# %% [markdown]
# `record_blocks=True` keeps a record of every block. All methods decode the same prompt with the
# same seed.

# %%
# %matplotlib inline
import rsd_jax
from rsd_jax.reporting.blocks import block_figure

pair = rsd_jax.load_pair("quickstart")
prompts = rsd_jax.encode_prompts(pair.tokenizer, ["class Queue:\n"])


def blocks_of(name, **options):
    method = rsd_jax.build_method(name, **options)
    result = rsd_jax.generate(
        method, pair.target, pair.draft, prompts, max_new_tokens=48, seed=1, record_blocks=True
    )
    print(f"{name} {method.tree}: block efficiency {result.stats.block_efficiency:.2f}")
    return result.block_records[0]


def partly_accepted(blocks):
    """The first block of which the verifier accepted some tokens, but not a whole path."""
    depth = max(block.depths.max() for block in blocks)
    return next(block for block in blocks if 0 < block.num_accepted < depth)


# %% [markdown]
# ## SD: a chain
#
# Each box has the text of a token, q (the draft's probability of it, given its parent) and p (the
# target's). A drafted token x is accepted with probability min(1, p(x) / q(x)). The walk ends at
# the first rejection, and the target emits a token in place of the rejected one (orange).

# %%
chain = blocks_of("sd", length=3)
block_figure(partly_accepted(chain), pair.tokenizer)

# %% [markdown]
# ## SpecTr: independent chains
#
# Three chains, drawn independently of each other, so the same token may appear more than once. The
# verifier K-SEQ accepts at most one of the three at each step, each with probability min(1, p(x) /
# (ρ q(x))), with a ρ that makes the law right.

# %%
chains = blocks_of("spectr", num_drafts=3, length=3)
block_figure(partly_accepted(chains), pair.tokenizer)

# %% [markdown]
# ## RSD-C and RSD-S in the same context
#
# Both draw siblings *without replacement*: no token twice below one parent. **RSD-C** has a
# constant branching, here three children of the root, two of each of these, one of each of those:
# 15 tokens. **RSD-S** draws three nodes of each level, without replacement from the whole level, by
# a stochastic beam search: 9 tokens. A likely node may get several children, an unlikely one none.
#
# These are the first blocks in which the answers of the two differ. All tokens before are the same,
# so both trees are drafted in the same context.

# %%
constant = blocks_of("rsd_c", branching=(3, 2, 1))
beam = blocks_of("rsd_s", width=3, length=3)
both = next((c, s) for c, s in zip(constant, beam, strict=False) if c.answer != s.answer)
block_figure(both[0], pair.tokenizer, caption="RSD-C 3-2-1")

# %%
block_figure(both[1], pair.tokenizer, caption="RSD-S 3x3")

# %% [markdown]
# ## Rejected tokens, and what replaces them
#
# RSD verifies by *recursive rejection*. The children x₁, x₂, … of a node are tested in the order in
# which they were drawn. Child k was drawn from q_k, which is q without the tokens of earlier
# siblings. Start with r₁ = p, the target's law.
#
# - Accept x_k with probability min(1, r_k(x_k) / q_k(x_k)).
# - If it is rejected, go on with the *residual* r_{k+1} = (r_k − q_k)⁺, normalised: what the target
#   wants beyond what the draft has offered.
# - If all children are rejected, the emitted token is drawn from the last residual.
#
# Below, the children of the root of the first block of RSD-S that accepted nothing.

# %%
import numpy as np

refused = next(block for block in beam if block.num_accepted == 0)
print("child  text          q      q_k     p")
for k, node in enumerate(np.flatnonzero(refused.parents == 0), start=1):
    text = pair.tokenizer.decode([int(refused.tokens[node])])
    probs = (
        each[node] for each in (refused.draft_probs, refused.drawn_probs, refused.target_probs)
    )
    print(f"{k:<5}  {text!r:10}", *(f"{prob:7.4f}" for prob in probs))
print(f"emitted: {pair.tokenizer.decode([refused.emitted])!r}, p {refused.emitted_prob:.4f}")

# %% [markdown]
# The same in full: both models score the text before the block, which gives p and q for every token
# of the vocabulary. The bars show how the residual moves to the tokens that the draft underrates,
# as children are rejected.

# %%
import jax
from matplotlib import pyplot as plt

before = [*prompts[0], *(token for block in beam[: refused.block] for token in block.answer)]


def law_of(loaded):
    logits = loaded.model.score(loaded.params, np.asarray([before], np.int32))
    return np.asarray(jax.nn.softmax(logits[0, -1]))


p, q = law_of(pair.target), law_of(pair.draft)
residuals, q_k = [p], q.copy()
for node in np.flatnonzero(refused.parents == 0):
    left = np.maximum(residuals[-1] - q_k, 0)
    residuals.append(left / left.sum())
    q_k[refused.tokens[node]] = 0
    q_k /= q_k.sum()

children = refused.tokens[refused.parents == 0].tolist()
shown = list(dict.fromkeys([*children, refused.emitted, *np.argsort(-residuals[-1])[:6].tolist()]))
bars = {"q, the draft's law": q, "p = r₁": p, "r₂": residuals[1], "r₄": residuals[3]}
colors = ("#a6a6a6", "#1f77b4", "#f2a65a", "#e06500")
figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
for place, ((name, law), color) in enumerate(zip(bars.items(), colors, strict=True)):
    at = np.arange(len(shown)) + 0.2 * (place - 1.5)
    axes.bar(at, law[shown], width=0.2, label=name, color=color)
marks = {token: f"\nchild {k}" for k, token in enumerate(children, start=1)}
marks[refused.emitted] = marks.get(refused.emitted, "") + "\nemitted"
texts = [repr(pair.tokenizer.decode([token])) + marks.get(token, "") for token in shown]
axes.set_xticks(range(len(shown)), texts)
axes.set_ylabel("probability")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# Why this is lossless, for one child: a token y comes out either as the accepted child, with
# probability min(p(y), q(y)), or from the residual, with probability (p(y) − q(y))⁺. The sum is
# p(y).
#
# ## The same tree under two verifiers
#
# *Sequential coupling* decides about the whole tree at once rather than node by node ([the
# mathematics](../docs/methods.md#sequential-coupling)). Both verifiers have the same law, but spend
# the same draft differently. With the same seed both runs draft the same trees until their answers
# part. This is the first block about which they decide differently: the same tree, twice.

# %%
coupled = blocks_of("rsd_s", width=3, length=3, verifier="coupling")
first, second = next(
    (r, c) for r, c in zip(beam, coupled, strict=False) if r.path.tolist() != c.path.tolist()
)
assert (first.tokens == second.tokens).all()
block_figure(first, pair.tokenizer, caption="recursive rejection")

# %%
block_figure(second, pair.tokenizer, caption="sequential coupling")

# %% [markdown]
# One tree proves nothing: both verifiers draw random numbers, and on a given tree either may come
# out ahead. On average over trees, coupling accepts more; on this pair at temperature 1 it has 8 to
# 11 % more tokens per block for trees of depth 4 or 5 ([arena](../docs/results/arena/README.md)).
#
# ## The answer, token by token
#
# The same records say of every token of the answer where it came from: blue tokens were drafted and
# accepted, orange and bold ones emitted by the target. `completion_page` makes a page of HTML of
# the same, where pointing at a token shows its block, depth and probabilities.

# %%
from rsd_jax.reporting.blocks import completion_text, pieces_of

print(completion_text(pieces_of(pair.tokenizer, coupled), color=True))
