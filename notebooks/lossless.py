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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/rsd-jax/rsd_jax/blob/main/notebooks/lossless.ipynb)

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
# # Lossless
#
# "Lossless" is a statement about laws: for any draft, the decoded tokens have exactly the joint law
# of the target alone. A wrong verifier still writes plausible text, so a look at the output proves
# nothing. The testing kit `rsd_jax.testing` enumerates instead: on models so small that every law
# is a table, it computes the law of what a verifier puts out, and compares it with the target's.
#
# In this notebook you write a verifier, hold it against the kit, break it, and see the difference
# in a picture.

# %%
from rsd_jax.records.hardware import Hardware, current_versions

print(Hardware.current())
print(current_versions())

# %% [markdown]
# ## A verifier of your own
#
# A `NodeVerifier` says how the children of one node are tested; the walk down the tree is there
# already. This one is recursive rejection, written plainly. With r₁ = p, the target's law at the
# node, child k with token x, drawn from q_k, is accepted if U q_k(x) < r_k(x), where U is uniform
# on [0, 1). Otherwise r_{k+1} = (r_k − q_k)⁺, normalised. If no child is left, the token that ends
# the block is drawn from r.
#
# The field `mistake` holds two errors that real code has had.

# %%
import dataclasses

import jax.numpy as jnp
from rsd_jax.core.tree import SiblingLaw
from rsd_jax.verifiers.walk import NodeVerifier, Verdict


@dataclasses.dataclass(frozen=True)
class Mine(NodeVerifier):
    mistake: str = ""

    @property
    def accepts(self):
        return frozenset({SiblingLaw.IID, SiblingLaw.WITHOUT_REPLACEMENT})

    def test(self, tree, node, log_p, uniforms, *, unrolled):
        r = jnp.exp(log_p)
        accepted, rejected, empty = jnp.int32(-1), jnp.int32(0), jnp.int32(0)
        for slot in range(1, tree.shape.num_nodes):  # siblings stand in the order of their draws
            is_next = (tree.parents[slot] == node) & tree.valid[slot] & (accepted < 0)
            token = tree.tokens[slot]
            q = jnp.exp(tree.law_of(jnp.int32(slot)))
            if self.mistake == "siblings as if independent":
                q = jnp.exp(tree.draft_logprobs_at(tree.parents[slot]))
            left = jnp.maximum(r - q, 0.0)
            passes = uniforms[slot] * q[token] < r[token]
            is_empty = ~passes & (left.sum() == 0.0)  # only if both laws agree
            accept, reject = is_next & (passes | is_empty), is_next & ~(passes | is_empty)
            accepted = jnp.where(accept, jnp.int32(slot), accepted)
            rejected += reject.astype(jnp.int32)
            empty += (is_next & is_empty).astype(jnp.int32)
            if self.mistake != "no residual":
                r = jnp.where(reject, left / jnp.where(left.sum() > 0, left.sum(), 1.0), r)
        return Verdict(accepted, rejected, r, empty)


# %% [markdown]
# ## Held against the kit
#
# `random_instances` makes pairs of a target and a draft over three tokens, some with zeros, some
# equal, some disjoint. `assert_lossless` enumerates every tree that RSD-C can draw from the draft,
# and every decision about it.

# %%
from rsd_jax.drafters import TREE_RULES
from rsd_jax.testing import assert_lossless, random_instances

rule = TREE_RULES["constant_branching"]((2, 1))
instances = random_instances(vocab_size=3, depth=2, count=7)
error = assert_lossless(Mine(), rule, instances)
print(f"lossless: no probability is off by more than {error:.1e}")

# %% [markdown]
# ## Mutants
#
# A check that has never failed proves little. Both mistakes are caught:
#
# - *no residual*: every child is tested against p, and what ends the block is drawn from p as well;
# - *siblings as if independent*: the second sibling was drawn without replacement, but is tested
#   with the law of an independent draw.

# %%
for mistake in ("no residual", "siblings as if independent"):
    try:
        assert_lossless(Mine(mistake=mistake), rule, instances)
    except AssertionError as caught:
        print(f"{mistake}: {caught}")

# %% [markdown]
# How wrong are they? The total variation is half the sum of the absolute differences of two laws; 0
# means that the laws are equal. The right verifier's bars have height 0. An instance can hide a
# mistake: where a mutant has no bar it is right by luck, so one instance is not enough.

# %%
# %matplotlib inline
import numpy as np
from matplotlib import pyplot as plt
from rsd_jax.testing import total_variations

wrong = {
    name: total_variations(Mine(mistake=name), rule, instances)
    for name in ("", "no residual", "siblings as if independent")
}
figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
for place, (name, values) in enumerate(wrong.items()):
    axes.bar(np.arange(7) + 0.27 * (place - 1), values, width=0.27, label=name or "right")
axes.set_xlabel("instance")
axes.set_ylabel("total variation")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## How much it accepts
#
# Lossless verifiers differ in how many tokens they get out of a tree. `hold_against_optimum`
# computes the expected tokens per block, and those of the best lossless verifier, by a linear
# programme. The share says what part of the distance between recursive rejection and the optimum a
# verifier closes.

# %%
from rsd_jax.testing import hold_against_optimum
from rsd_jax.verifiers import VERIFIERS

contestants = {"mine": Mine(), "coupling": VERIFIERS["coupling"]()}
print(hold_against_optimum(contestants, rule, instances[0]))

# %% [markdown]
# ## A joint law as a picture
#
# The kit checks one block. `generate` runs many: caches, positions, seeds and batches can be wrong
# too. A `TableModel` is a language model whose law after any text is a row of a table, so the law
# of whole texts is known exactly, and `generate` takes it like any other model. Here 30,000 rows
# each decode three tokens from six. The picture shows the joint law of the first two.

# %%
import jax
import rsd_jax
from rsd_jax.testing import TableModel, check_joint_law, sequence_law

model = TableModel(vocab_size=6)
weights = model.init_params(jax.random.key(0), scale=1.5)
other = model.init_params(jax.random.key(1), scale=1.5)
target, draft = rsd_jax.LoadedModel(model, weights), rsd_jax.LoadedModel(model, other)
method = rsd_jax.build_method("rsd_c", branching=(2, 1))
ROWS = 30_000


def decoded(verifier):
    """int[ROWS, 3]: what `generate` gives after the prompt [1]."""
    own = dataclasses.replace(method, verifier=verifier)
    result = rsd_jax.generate(own, target, draft, [[1]] * ROWS, max_new_tokens=3, temperature=1.0)
    return np.asarray(result.tokens)


law = sequence_law(model, weights, [1], 3)
samples = {name: decoded(Mine(mistake=name)) for name in ("", "siblings as if independent")}
for name, tokens in samples.items():
    check = check_joint_law([tokens], [law], false_alarm=1e-6)
    print(
        f"{name or 'right'}: {'passed' if check.passed else 'FAILED'}, "
        f"chi-square {check.statistic:.0f}, limit {check.critical:.0f}"
    )


# %%
def of_two(tokens):
    """f64[6, 6]: how often each pair of first tokens was decoded."""
    counts = np.zeros((6, 6))
    np.add.at(counts, (tokens[:, 0], tokens[:, 1]), 1 / len(tokens))
    return counts


exact = law.sum(axis=2)
pictures = {
    "target, exact": exact,
    "decoded": of_two(samples[""]),
    "draft alone, exact": sequence_law(model, other, [1], 2),
    "decoded by the mutant": of_two(samples["siblings as if independent"]),
}
figure, grid = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
for column, (title, values) in zip(grid.T, pictures.items(), strict=True):
    top = column[0].imshow(values, vmin=0, vmax=exact.max(), cmap="Blues")
    below = column[1].imshow(values - exact, vmin=-0.03, vmax=0.03, cmap="RdBu")
    column[0].set_title(title, fontsize=10)
    column[1].set_xlabel("second token")
grid[0, 0].set_ylabel("first token")
grid[1, 0].set_ylabel("first token")
figure.colorbar(top, ax=grid[0], label="probability")
figure.colorbar(below, ax=grid[1], label="minus the target's")
plt.show()

# %% [markdown]
# The upper row shows the laws, the lower row their difference to the target's (colours end at
# 0.03). The draft is a stranger to the target, yet what is decoded with it has the target's law up
# to the noise of 30,000 samples. The mutant's picture looks right in the upper row, and is wrong:
# the lower row shows that it takes mass from texts that begin with 0 and gives it to those that
# begin with 1.
#
# To register a verifier for `build_method`, see [CONTRIBUTING](../CONTRIBUTING.md#how-to-add).
