"""Prompts of the tasks that ship, cut from this machine's library."""

from rsd_jax.distillation.data import functions, passages
from rsd_jax.distillation.workspace import Workspace
from rsd_jax.tasks.docstrings import DOCSTRING_PROMPTS
from rsd_jax.tasks.prompts import QUICKSTART_PROMPTS, save_prompts


def write_prompts(workspace: Workspace, count: int = 48, per_file: int = 5) -> None:
    """Cuts prompts from held-out files into the export directory.

    prompts.jsonl gets `count` passages for completion, docstrings.jsonl the functions.
    """
    files = workspace.library()
    prompts = passages.cut_prompts(files, workspace.tokenizer(), count=count, per_file=per_file)
    save_prompts(prompts, workspace.export_dir / QUICKSTART_PROMPTS.name)
    held_out = functions.docstring_examples(files)["heldout"]
    described = functions.cut_docstring_prompts(held_out)
    save_prompts(described, workspace.export_dir / DOCSTRING_PROMPTS.name)
