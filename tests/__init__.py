"""The tests; helpers that several of them share are modules of this folder."""

import os
import pathlib

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
"""Of the repository."""

NEWER_GENERATOR = "xla_cpu_use_fusion_emitters"
"""XLA's option for how code for a CPU is generated."""

HAS_OLDER_GENERATOR = jax.__version_info__ < (0, 11)
"""Whether the option can be off; from JAX 0.11 on it is unknown, and ends the process."""

AS_USERS_COMPILE = {NEWER_GENERATOR: True} if HAS_OLDER_GENERATOR else {}
"""Options for `compile`, in tests that read the text of compiled programs. The text is made before
the optimisations that tests leave out, which are of machine code only: it is the users' text."""

needs_pages = pytest.mark.skipif(
    os.environ.get("RSD_JAX_PAGES") != "1" and os.environ.get("RSD_JAX_NOTEBOOKS") != "1",
    reason="RSD_JAX_PAGES=1, or .ci/run, runs the notebooks that take seconds and builds the site",
)
