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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/rsd-jax/rsd_jax/blob/main/notebooks/results.ipynb)

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
# # Results from rows
#
# A measurement writes *rows*: one JSON object per method and setting, with counts, rates and
# intervals. Figures and tables come from the rows alone, so JAX is not needed to draw them. This
# notebook reads the rows of [docs/results](../docs/results/README.md), draws the figures of the
# report, and makes one of its own. The rows were measured on an AMD EPYC and say so themselves; the
# machine below only draws them.

# %%
from rsd_jax.records.hardware import Hardware, current_versions

print(Hardware.current())
print(current_versions())

# %% [markdown]
# ## Rows
#
# The rows are in the repository, not in the package.

# %%
import pathlib
import subprocess

folder = pathlib.Path("../docs/results")
if not folder.is_dir():  # in Colab
    subprocess.run(["git", "clone", "--quiet", "--depth=1", REPOSITORY, "repository"], check=True)
    folder = pathlib.Path("repository/docs/results")

# %%
from rsd_jax.records.files import read_rows

rows = read_rows(folder / "experiment1.jsonl")
row = rows[-1]
print(len(rows), "rows; the last one:")
print(
    row.method, row.tree, row.task, f"T = {row.temperature}", row.hardware.cpu, row.versions["jax"]
)
print(row.decoding)

# %% [markdown]
# `row.flat()` is a dictionary as on disk: `pandas.DataFrame([row.flat() for row in rows])` has a
# column per field.
#
# ## The figure of the paper
#
# Experiment 1 compares methods at equal draft length. A *panel* is one pair on one task. Every
# point is the structure with the largest block efficiency of those tried at that length, picked on
# the prompts that it is reported on, which is optimistic; bands are 95 % intervals over prompts.

# %%
# %matplotlib inline
# %config InlineBackend.print_figure_kwargs = {"dpi": 90, "bbox_inches": "tight"}
from rsd_jax.reporting.experiment.definitions import EXPERIMENTS
from rsd_jax.reporting.experiment.grid import grid_figure
from rsd_jax.reporting.panels import panels_of

panels = panels_of(rows)
grid_figure(
    panels, EXPERIMENTS["experiment1"], "block_efficiency", "Best structure at each length."
)

# %% [markdown]
# Block efficiency and MBSU favour wide trees. The token rate by the clock of this CPU does not: a
# pass over thirty tokens takes as long as many passes over one.
#
# ## A figure of your own
#
# Every structure that was tried, at any length: what it gains in tokens per pass, and what is left
# of this by the clock.

# %%
from matplotlib import pyplot as plt
from rsd_jax.reporting.figures import in_order, style_of

figure, every = plt.subplots(1, len(panels), figsize=(12, 3.8), layout="constrained")
for axes, panel in zip(every, panels, strict=True):
    for variant in in_order(structure.variant for structure in panel.structures):
        mine = [structure for structure in panel.structures if structure.variant == variant]
        style = style_of(variant)
        axes.scatter(
            [structure.value("block_efficiency") for structure in mine],
            [structure.value("token_rate_ratio") for structure in mine],
            s=[3 * structure.rows[0].target_budget for structure in mine],
            color=style.color,
            alpha=0.6,
            linewidths=0,
            label=style.label,
        )
    axes.axhline(1, color="#8c8c8c", lw=1, ls="--")
    axes.set_title(panel.label, fontsize=10, loc="left")
    axes.set_xlabel("block efficiency")
every[0].set_ylabel("token rate (AR = 1)")
every[-1].legend(frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# The area of a dot is the number of nodes that the target scores per block. The small dots are on
# top.
#
# ## Verifiers on the same trees
#
# The rows of the arena hold the *expected* tokens per block of each lossless verifier, exactly, on
# the trees of the row's own run. The figure shows the gain over recursive rejection.

# %%
from rsd_jax.reporting.expected.contests import contests_of
from rsd_jax.reporting.expected.figure import gain_figure

(contest, *_others) = contests_of(read_rows(folder / "arena/arena.jsonl"))
gain_figure(contest, "temperature", contest.label)

# %% [markdown]
# At low temperature the laws are peaked, and most verifiers accept nearly the same. At temperature
# 1 sequential coupling is well ahead of recursive rejection on every tree. SpecTr's own verifier,
# K-SEQ, is ahead of coupling on SpecTr's larger trees at the lower temperatures. `match` does not
# use the draft's probabilities and falls out of the panels
# ([arena](../docs/results/arena/README.md)).
#
# ## A stream
#
# The target that was trained to draft for itself, along 120 prompts: the speed-up over
# autoregressive decoding so far (green), of each prompt (grey), and the matchness of its skip set.

# %%
from rsd_jax.reporting.stream.figure import stream_figure
from rsd_jax.reporting.stream.streams import streams_of

(stream,) = streams_of(read_rows(folder / "swift_adapted.jsonl"))
stream_figure(stream, "Rows of docs/results/swift_adapted.jsonl.")

# %% [markdown]
# `python launch/plot.py docs/results/*.jsonl` writes all of this, every table, and one page of HTML
# with all figures. [docs/evaluation.md](../docs/evaluation.md) says how rows of your own are
# measured.
