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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/rsd-jax/rsd_jax/blob/main/notebooks/quickstart.ipynb)

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
# # Quickstart
#
# A language model writes one token per pass over its weights. **Speculative decoding** lets a small
# *draft* model guess several tokens, has the large *target* model score all guesses in one pass,
# and keeps those that a *verifier* accepts. The text still follows exactly the target's law:
# whatever the draft guesses, only the speed changes. RSD drafts a *tree* of guesses instead of one
# chain.
#
# This notebook loads the small pair that ships with the package, decodes with one method, and then
# compares six.

# %%
from rsd_jax.records.hardware import Hardware, current_versions

print(Hardware.current())
print(current_versions())

# %% [markdown]
# ## A pair and a prompt
#
# The pair was trained on the standard library of Python and on a small task: German number words
# for English ones. The target has 9.8 million parameters and its draft 0.9 million, so both run on
# a laptop.

# %%
import rsd_jax

pair = rsd_jax.load_pair("quickstart")
prompts = rsd_jax.encode_prompts(
    pair.tokenizer,
    ["English: ninety-three, eighty-four thousand seven hundred and thirty-four, zero\nGerman:"],
)
method = rsd_jax.build_method("rsd_s", width=4, length=4)
result = rsd_jax.generate(
    method,
    pair.target,
    pair.draft,
    prompts,
    max_new_tokens=64,
    temperature=0,
    eos_id=pair.eos_ids,
)
print(pair.tokenizer.decode(result.tokens[0], skip_special_tokens=True))

# %% [markdown]
# RSD-S of width 4 and length 4 drafted trees of 16 tokens. The counts say how well the guesses did.
# A block is one draft tree and one pass of the target; **block efficiency** is the number of tokens
# per block. Without a draft it is 1.

# %%
print(f"{result.num_tokens[0]} tokens in {result.stats.blocks[0]} passes of the target")
print(f"block efficiency {result.stats.block_efficiency:.2f}")

# %% [markdown]
# ## The same tokens as without a draft
#
# At temperature 0 nothing is random, so "the target's law" means "the target's tokens". Every
# method has to give those of autoregressive decoding (`"ar"`), which needs no draft.

# %%
alone = rsd_jax.generate(
    rsd_jax.build_method("ar"),
    pair.target,
    None,
    prompts,
    max_new_tokens=64,
    temperature=0,
    eos_id=pair.eos_ids,
)
print("the same tokens:", alone.tokens == result.tokens)
print(f"{alone.num_tokens[0]} tokens in {alone.stats.blocks[0]} passes of the target")

# %% [markdown]
# ## Six methods on the same prompts
#
# `compare` first compiles every method; then the methods take turns on each prompt, and each
# sampled token is drawn at temperature 0.3. The prompts are from files of the standard library that
# neither model was trained on.

# %%
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.comparison import compare
from rsd_jax.evaluation.measured_rows import comparison_rows
from rsd_jax.tasks.prompts import load_prompts

methods = [
    rsd_jax.build_method("ar"),
    rsd_jax.build_method("sd", length=4),
    rsd_jax.build_method("spectr", num_drafts=3, length=4),
    rsd_jax.build_method("rsd_c", branching=(2, 2, 1, 1)),
    rsd_jax.build_method("rsd_s", width=4, length=4),
    rsd_jax.build_method("rsd_s", width=4, length=4, verifier="coupling"),
]
held_out = rsd_jax.encode_prompts(pair.tokenizer, [prompt.text for prompt in load_prompts()[:8]])
sampling = Sampling(max_new_tokens=64, temperature=0.3, eos_ids=pair.eos_ids)
measured, _ = compare(methods, pair.target, pair.draft, held_out, sampling)
rows = comparison_rows(
    measured,
    pair.target,
    pair.draft,
    sampling,
    source="notebook",
    pair="quickstart",
    task="completion",
)

# %%
from IPython.display import Markdown

from rsd_jax.reporting.comparison.table import comparison_table

Markdown(comparison_table(rows, markdown=True))

# %%
# %matplotlib inline
from rsd_jax.reporting.comparison.bars import comparison_figure

comparison_figure(rows)

# %% [markdown]
# Three metrics, because no single one tells everything:
#
# - **Block efficiency**: tokens per pass of the target. Trees beat chains. The whiskers are wide,
#   because eight short answers are few, and the two verifiers of RSD-S differ by less than that.
#   Over 16 prompts and 128 tokens the two are equal at this temperature; at temperature 1
#   `coupling` is ahead ([arena](../docs/results/arena/README.md)).
# - **MBSU**, the memory-bound speed-up: block efficiency / (1 + r L), where r is the draft's size
#   relative to the target's and L the number of its passes per block. This is the speed-up on
#   hardware where a pass costs what its weights cost to read, such as an accelerator at a small
#   batch.
# - **Token rate**: tokens per second by the clock, relative to `"ar"` in the same run. In
#   the committed run, on two idle cores, no method was faster than `"ar"`: a pass of a CPU over 17
#   tokens takes much longer than one over a single token. The README has the rates
#   of a longer run.
#
# ## Text while it is decoded
#
# `stream` takes the arguments of `generate` and yields tokens block by block; `stream_text` turns
# them into text.

# %%
pieces = rsd_jax.stream(
    method, pair.target, pair.draft, prompts, max_new_tokens=64, temperature=0, eos_id=pair.eos_ids
)
for _row, piece in rsd_jax.stream_text(pair.tokenizer, pieces):
    print(piece, end="", flush=True)

# %% [markdown]
# ## Where to go from here
#
# - [tree_anatomy](tree_anatomy.ipynb) draws a block: which tokens were drafted, accepted and
#   replaced.
# - [lossless](lossless.ipynb) shows what "exactly the target's law" means, and how to check it.
# - [real_model](real_model.ipynb) decodes with a chat model.
