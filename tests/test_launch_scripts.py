"""The scripts that launch on several hosts print what they would run, and name mistakes."""

import itertools
import os
import shlex
import subprocess

import jax
import numpy as np
import pytest

from rsd_jax.cli import main
from rsd_jax.cli.flags import COMMANDS
from rsd_jax.core.sharding import MeshLayout, make_mesh
from rsd_jax.evaluation.tpu.programs import abstract_model
from tests import ROOT

_PLACE = ("--zone", "us-central2-b")
_RUN = ("evaluate", "--config", "experiment1:llama2_70b", "--config.mesh=(1,16)")


def _script(name, *arguments, **environment):
    return subprocess.run(
        ["bash", str(ROOT / "launch" / name), *arguments],
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _pod(step, *flags):
    ended = _script("tpu_pod.sh", step, *_PLACE, "--dry-run", *flags)
    assert ended.returncode == 0, ended.stderr
    return [shlex.split(line) for line in ended.stdout.splitlines()]


def _accepted(command):
    """Whether `rsd` accepts a command line."""
    args, unread = main.parser().parse_known_args(command)
    assert all(flag.startswith("--config.") for flag in unread), unread
    COMMANDS[args.command].check(args)
    return args.distributed


def test_a_slice_is_created_and_deleted():
    kind = (
        "--type",
        "v5litepod-16",
        "--version",
        "v",
        "--name",
        "mine",
        "--project",
        "p",
        "--spot",
    )
    (plain,), (queued,) = _pod("create", *kind), _pod("create", *kind, "--queued")
    assert plain[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "create", "mine"]
    assert queued[3:8] == ["queued-resources", "create", "mine", "--node-id", "mine"]
    for command, version in ((plain, "--version"), (queued, "--runtime-version")):
        flags = dict(itertools.pairwise(command))
        assert flags["--zone"] == _PLACE[1]
        assert flags["--project"] == "p"
        assert flags["--accelerator-type"] == "v5litepod-16"
        assert flags[version] == "v"
        assert "--spot" in command
    for step in ("status", "delete"):
        assert _pod(step)[0][3] == "tpu-vm"
        assert _pod(step, "--queued")[0][3] == "queued-resources"


def test_a_command_runs_on_every_host_and_host_0_has_the_rows():
    archive, copy, install = _pod("setup")
    assert archive[:2] == ["git", "-C"]
    assert "--worker=all" in copy
    assert install[-1].endswith(".venv/bin/pip install --quiet -e .[tpu]")
    (run,) = _pod("run", "--", *_RUN)
    assert "--worker=all" in run
    folder, _, remote = run[-1].partition(" && ")
    assert folder == "cd rsd_jax"
    program, *command = shlex.split(remote)
    assert program == ".venv/bin/rsd"
    assert command == [*_RUN, "--distributed"]
    assert _accepted(command)
    made, collect = _pod("collect", "--results", "runs/x", "--out", "here")
    assert made == ["mkdir", "-p", "here"]
    assert "rsd-jax:rsd_jax/runs/x" in collect
    assert collect[-1] == "--worker=0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("destroy", *_PLACE), "unknown step destroy; the steps are create, status"),
        (("create",), "--zone is missing"),
        (("create", *_PLACE), "--type is missing"),
        (("run", *_PLACE), "the command is missing"),
        (("run", *_PLACE, "--name"), "--name needs a value"),
        (("run", *_PLACE, "--verbose"), "unknown flag --verbose"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    ended = _script("tpu_pod.sh", *arguments, "--dry-run")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {message}")
    assert ended.stderr.count("\n") == 1


def test_help_and_no_arguments():
    shown = _script("tpu_pod.sh", "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith("Creates a TPU slice")
    assert "--dry-run" in shown.stdout
    assert "pipefail" not in shown.stdout
    assert _script("tpu_pod.sh").returncode == 2


def test_slurm_starts_one_process_per_node(tmp_path):
    ended = _script("slurm.sbatch", *_RUN, RSD_DRY_RUN="1", PYTHON="py", SLURM_SUBMIT_DIR=".")
    words = shlex.split(ended.stdout)
    assert words[:5] == ["srun", "--kill-on-bad-exit=1", "py", "-m", "rsd_jax.cli"]
    assert words[5:] == [*_RUN, "--distributed"]
    assert _accepted(words[5:])
    assert "#SBATCH --ntasks-per-node=1" in (ROOT / "launch/slurm.sbatch").read_text()
    refused = _script("slurm.sbatch", RSD_DRY_RUN="1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: the command is missing")


def test_llama2_70b_fits_eight_devices():
    """The figures of docs/scaling.md."""
    layout = MeshLayout.of(make_mesh((1, 8)))
    leaves = jax.tree.leaves(abstract_model("llama2_70b", layout).params)
    held = sum(np.prod(leaf.sharding.shard_shape(leaf.shape)) * 2 for leaf in leaves)
    assert held / 2**30 == pytest.approx(16.5, abs=0.05)
