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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/rsd-jax/rsd_jax/blob/main/notebooks/llama2.ipynb)

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
# # Llama-2 on an accelerator
#
# The pair that ships is a toy. This notebook decodes with Llama-2-7B-Chat and a draft of 68 million
# parameters, on a GPU with at least 24 GB of memory or a TPU. It has no outputs here: Llama-2 needs
# a licence, and nobody has run it with the weights yet. Run it, and its numbers are yours.

# %%
from rsd_jax.records.hardware import Hardware, current_versions

print(Hardware.current())
print(current_versions())

# %% [markdown]
# ## The weights
#
# Accept the licence on [huggingface.co](https://huggingface.co/meta-llama/Llama-2-7b-chat-hf), log
# in with `hf auth login`, and download both models (13.5 GB in all):
#
# ```sh hf download meta-llama/Llama-2-7b-chat-hf --local-dir models/Llama-2-7b-chat-hf hf download
# JackFram/llama-68m --local-dir models/llama-68m ```
#
# The draft has to be in safetensors; `load_model` says how to convert weights that are not. Any
# draft with the tokenizer of Llama-2 will do ([docs/training.md](../docs/training.md) says how to
# train one).

# %%
import pathlib

TARGET = pathlib.Path("models/Llama-2-7b-chat-hf")
DRAFT = pathlib.Path("models/llama-68m")

for path in (TARGET, DRAFT):
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"there is no model in {path}: download it as the text above says, or set TARGET and "
            "DRAFT to the folders that hold your models"
        )

# %% [markdown]
# `dtype="auto"` is bfloat16 on an accelerator. There, passes of different widths round differently,
# so a greedy token may change where two logits almost tie; the law of the output is that of the
# target up to this rounding.

# %%
import rsd_jax
import transformers

pair = rsd_jax.LoadedPair(
    target=rsd_jax.load_model(TARGET, dtype="auto"),
    draft=rsd_jax.load_model(DRAFT, dtype="auto"),
    tokenizer=transformers.AutoTokenizer.from_pretrained(TARGET),
)

# %% [markdown]
# ## A chat, streamed
#
# A conversation is rendered by the tokenizer's own chat template.

# %%
questions = [
    "Explain to a child why the sky is blue.",
    "Write a limerick about a careful accountant.",
    "List three causes of the French Revolution, one line each.",
    "Write a Python function that merges two sorted lists.",
]
prompts = rsd_jax.encode_prompts(
    pair.tokenizer, [[{"role": "user", "content": question}] for question in questions]
)
method = rsd_jax.build_method("rsd_s", width=4, length=4)
pieces = rsd_jax.stream(
    method,
    pair.target,
    pair.draft,
    prompts[:1],
    max_new_tokens=256,
    temperature=0.6,
    eos_id=pair.eos_ids,
)
for _row, text in rsd_jax.stream_text(pair.tokenizer, pieces):
    print(text, end="", flush=True)

# %% [markdown]
# ## Methods side by side
#
# The first run of a method compiles it, which is not counted.

# %%
from IPython.display import Markdown
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.comparison import compare
from rsd_jax.evaluation.measured_rows import comparison_rows
from rsd_jax.reporting.comparison.table import comparison_table

methods = [
    rsd_jax.build_method("ar"),
    rsd_jax.build_method("sd", length=4),
    rsd_jax.build_method("spectr", num_drafts=4, length=4),
    rsd_jax.build_method("rsd_c", branching=(3, 2, 1, 1)),
    rsd_jax.build_method("rsd_s", width=4, length=4),
    rsd_jax.build_method("rsd_s", width=4, length=4, verifier="coupling"),
]
sampling = Sampling(max_new_tokens=128, temperature=0.6, eos_ids=pair.eos_ids)
measured, _ = compare(methods, pair.target, pair.draft, prompts, sampling)
rows = comparison_rows(
    measured,
    pair.target,
    pair.draft,
    sampling,
    source="notebook",
    pair="llama2_chat_7b",
    task="questions",
)
Markdown(comparison_table(rows, markdown=True))

# %%
# %matplotlib inline
from rsd_jax.reporting.comparison.bars import comparison_figure

comparison_figure(rows)

# %% [markdown]
# ## A block

# %%
from rsd_jax.reporting.blocks import block_figure

result = rsd_jax.generate(
    method,
    pair.target,
    pair.draft,
    prompts[:1],
    max_new_tokens=32,
    temperature=0.6,
    record_blocks=True,
)
block_figure(result.block_records[0][1], pair.tokenizer)

# %% [markdown]
# Four questions are an example, not a measurement. The experiments of the paper are configurations:
# `python launch/evaluate.py --config=configs/evaluate/experiment1.py:llama2_chat_7b`
# ([docs/evaluation.md](../docs/evaluation.md)).
