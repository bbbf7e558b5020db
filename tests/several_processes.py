"""Holds two processes of two CPU devices each against one process of four.

    python -m tests.several_processes FOLDER

runs `rsd evaluate`, `rsd stream` and `rsd distill` both ways, and generation from Python, and
compares tokens, counts and weights. A process is killed in the middle of a sweep, which then goes
on; and a process waits for one that never starts. The processes talk over sockets of this machine
(127.0.0.1), so this is a script and not a test of the suite. It takes some minutes. FOLDER can be
removed afterwards.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests import ROOT

ONE, TWO = "one", "two"
_WAYS, _MODELS = (ONE, TWO), ("target", "draft")
RELATIVE = 1e-5
"""Bound of the difference of weights after 20 steps, relative to the largest weight of a leaf."""

_SWEEP = """
from configs.evaluate import experiment1, pairs
def get_config():
    config = experiment1.get_config("quick").unlock()
    config.pairs = dict(tiny=pairs.pair(target=%(target)r, draft=%(draft)r))
    config.tasks = dict(number_words=pairs.task(
        num_prompts=6, max_new_tokens=24, temperatures=(0.5,)))
    config.trees = dict(sd=("2",), rsd_s=("2x2",))
    config.verifiers = dict.fromkeys(config.trees, ())
    config.update(seeds=(0, 1, 2), batch_size=4, cells_together=1, mesh=(4, 1))
    return config
"""
_STREAM = """
from configs.evaluate import swift_stream
def get_config():
    config = swift_stream.get_config("chain").unlock()
    config.pair.update(shipped="", target=%(target)r)
    config.task.update(num_prompts=3, max_new_tokens=64)
    config.update(phases=False, mesh=(2, 2))
    return config
"""
_DISTILL = """
from configs.distill import quickstart
def get_config():
    config = quickstart.get_config().copy_and_resolve_references().unlock()
    for stage in ("target", "draft"):
        model, recipe = config[stage].model, config[stage].recipe
        model.update(vocab_size=300, hidden_size=16, intermediate_size=16, head_dim=4)
        model.update(num_layers=1, num_heads=2, num_kv_heads=1, max_positions=1024)
        recipe.update(steps=20, batch_size=4, window=120, eval_windows=4, eval_batch_size=4)
        recipe.update(optimizer="adamw", learning_rate=1e-3, warmup_steps=1, log_every=5)
        recipe.update(compute_dtype="float32", checkpoint_every=10)
    config.draft_warm_start = None
    config.update(corpus_root=%(library)r, vocab_size=300, max_prompt_tokens=200)
    config.number_words.update(train=20, heldout=2)
    config.prompts.update(library=0, number_words=6, docstrings=2)
    config.responses.update(batch_size=4, max_new_tokens=8, prompts_per_shard=4, top_logprobs=8)
    return config
"""


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _environment(devices: int) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    own = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    return os.environ | own | {"PYTHONWARNINGS": "default"}


def start(command: Sequence[str], folder: pathlib.Path, processes: int) -> list[subprocess.Popen]:
    """Starts a command as one process of four devices, or as two of two; output goes to files."""
    folder.mkdir(parents=True, exist_ok=True)
    joined: list[list[str]] = [[]]
    if processes == 2:
        where = ["--distributed", "--coordinator", f"127.0.0.1:{_port()}", "--processes", "2"]
        joined = [[*where, "--process_id", str(index)] for index in range(2)]
    started = []
    for index, flags in enumerate(joined):
        with (folder / f"output-{index}.txt").open("ab") as output:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command, *flags],
                    cwd=ROOT,
                    env=_environment(4 // processes),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
    return started


def finish(started: Sequence[subprocess.Popen], folder: pathlib.Path) -> None:
    """Waits for processes, which must succeed."""
    for index, process in enumerate(started):
        if process.wait() != 0:
            said = (folder / f"output-{index}.txt").read_text()[-2000:]
            sys.exit(f"{process.args} failed with {process.returncode}:\n{said}")


def both_ways(name: str, command: Sequence[str], root: pathlib.Path, out: str) -> None:
    """Runs a command both ways; `out` is its flag for the folder of its results."""
    for way, processes in ((ONE, 1), (TWO, 2)):
        begun, folder = time.perf_counter(), root / name / way
        finish(start([*command, f"{out}={folder}"], folder, processes), folder)
        print(f"{name}: {way}, {time.perf_counter() - begun:.0f} s", flush=True)


def check(what: str, *, holds: bool) -> None:
    """Says that something holds, or ends the script."""
    if not holds:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}", flush=True)


# --- tokens ---------------------------------------------------------------------------------------


def generate(out: pathlib.Path) -> None:
    """Writes tokens and counts of several methods on two meshes."""
    import jax

    import rsd_jax
    from rsd_jax.core.processes import on_writer

    found: dict[str, Any] = {}
    methods: dict[str, dict[str, int]] = {"ar": {}, "rsd_s": {"width": 2, "length": 2}}
    models = out.parents[1] / "models"
    prompts = [[1, 2, 3], [4, 5], [6, 7, 8, 9], [10], [11, 12]]
    for sizes in ((4, 1), (2, 2)):
        mesh = jax.make_mesh(sizes, ("data", "model"))
        target, draft = (rsd_jax.load_model(models / name, mesh=mesh) for name in _MODELS)
        for name, options in methods.items():
            result = rsd_jax.generate(
                rsd_jax.build_method(name, **options),
                target,
                draft,
                prompts,
                max_new_tokens=24,
                temperature=0.5,
                batch_size=4,
            )
            counts = {key: value.tolist() for key, value in vars(result.stats).items()}
            found[f"{name} {sizes}"] = [result.tokens, counts]
    on_writer((out / "tokens.json").write_text, json.dumps(found))


def _write_models(folder: pathlib.Path) -> None:
    """A tiny pair with the tokenizer of the pair that ships."""
    import shutil

    from rsd_jax.models.checkpoint import save_model
    from rsd_jax.models.pairs import shipped_pair_directory
    from rsd_jax.testing.tiny_llama import TINY_CONFIG, mixed_params, tiny_params

    config = dataclasses.replace(TINY_CONFIG, vocab_size=2048, num_layers=3, eos_ids=(0,))
    target = tiny_params(0, config)
    drafts = mixed_params(target, tiny_params(1, config), 0.15)
    for name, params in (("target", target), ("draft", drafts)):
        save_model(folder / name, config, params, dtype="float32")
        for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shipped = shipped_pair_directory("quickstart") / "target" / file
            shutil.copy(shipped, folder / name / file)


def _same_tokens(root: pathlib.Path) -> None:
    both_ways("generate", ["tests.several_processes", "--worker"], root, "--out")
    one, two = (json.loads((root / "generate" / way / "tokens.json").read_text()) for way in _WAYS)
    check(f"tokens and counts of {len(one)} runs of `generate` are the same", holds=one == two)


# --- rows -----------------------------------------------------------------------------------------


def _counted(path: pathlib.Path) -> list[dict[str, Any]]:
    """Rows without what time and the machine decide."""
    kept = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        timed = ("time", "seconds", "rate", "hardware", "versions", "created", "latency", "devices")
        kept.append({k: v for k, v in row.items() if not any(word in k for word in timed)})
    return sorted(kept, key=lambda row: json.dumps(row, sort_keys=True))


def _same_rows(name: str, root: pathlib.Path) -> None:
    one, two = (_counted(root / name / way / "results.jsonl") for way in _WAYS)
    differing = sorted({k for a, b in zip(one, two, strict=False) for k in a if a[k] != b.get(k)})
    check(
        f"{name}: {len(one)} rows, the same both ways {differing or ''}",
        holds=one == two and len(one) > 0,
    )


def _killed(root: pathlib.Path, command: Sequence[str]) -> None:
    """Kills the second process of a sweep after two rows, and lets the sweep go on."""
    folder = root / "killed"
    rows = folder / "results.jsonl"
    first, second = start([*command, f"--config.out_dir={folder}"], folder, 2)
    while not rows.exists() or rows.read_bytes().count(b"\n") < 2:
        if first.poll() is not None:
            sys.exit(f"the sweep ended early: {(folder / 'output-0.txt').read_text()[-2000:]}")
        time.sleep(0.2)
    second.send_signal(signal.SIGKILL)
    second.wait()
    begun = time.perf_counter()
    first.wait()
    said = (folder / "output-0.txt").read_text()
    print(f"the other process ended after {time.perf_counter() - begun:.0f} s with the line:")
    print("  " + (next((x for x in said.splitlines() if x.startswith("error:")), said[-500:])))
    before = rows.read_bytes()
    check("a killed process loses no row, and no row says failed", holds=b'"failed"' not in before)
    again = start([*command, f"--config.out_dir={folder}"], folder, 2)
    finish(again, folder)
    check("the sweep went on", holds=rows.read_bytes().startswith(before))
    expected, found = (_counted(each) for each in (root / "evaluate" / ONE / rows.name, rows))
    check(f"{len(found)} rows, none twice, the same as without", holds=expected == found)


def _missing(root: pathlib.Path, command: Sequence[str]) -> None:
    """A process whose companion never starts."""
    folder = root / "missing"
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["--distributed", "--coordinator", f"127.0.0.1:{_port()}", "--processes", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", *command, *flags, "--process_id", "0", "--start_timeout", "5"],
        cwd=ROOT,
        env=_environment(2),
        capture_output=True,
        text=True,
        check=False,
    )
    print("  " + ended.stderr.strip())
    check(
        "a host that is missing is one line and exit code 2",
        holds=ended.returncode == 2 and len(ended.stderr.strip().splitlines()) == 1,
    )


# --- training -------------------------------------------------------------------------------------


def _library(folder: pathlib.Path) -> pathlib.Path:
    """Text to train on: small modules, each with a function that has a docstring."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(80):
        body = "".join(f"    total_{j} = argument + {j}\n" for j in range(60))
        (folder / f"module{i}.py").write_text(
            f'def function_{i}(argument):\n    """Return the argument plus {i}."""\n'
            f"    return argument + {i}\n\n\ndef long_{i}(argument):\n{body}"
        )
    return folder


def _same_training(root: pathlib.Path, config: pathlib.Path) -> None:
    from rsd_jax.cli.configurations import read_configuration
    from rsd_jax.distillation.settings import Settings
    from rsd_jax.distillation.workspace import Workspace

    settings = Settings.from_config(read_configuration(str(config), [], "distill", ()))
    import flax.traverse_util

    spaces = [Workspace(settings, root / "distill" / way, root / "x") for way in _WAYS]
    for stage in ("target",):
        one, two = (
            flax.traverse_util.flatten_dict(space.params(stage), sep="/") for space in spaces
        )
        worst = max(
            float(np.abs(np.asarray(one[k]) - np.asarray(two[k])).max() / np.abs(one[k]).max())
            for k in one
        )
        check(f"{stage}: weights after 20 steps differ by {worst:.1e}", holds=worst <= RELATIVE)
    shards = [sorted((space.root / "responses").glob("*.npz")) for space in spaces]
    same = [p.name for p in shards[0]] == [p.name for p in shards[1]]
    for ours, theirs in zip(*shards, strict=True):
        a, b = np.load(ours), np.load(theirs)
        same &= all(np.array_equal(a[k], b[k]) for k in ("tokens", "length", "request_id", "ended"))
    check(f"responses: tokens of {len(shards[0])} shards are the same", holds=same)


def main() -> None:
    """Runs everything in a folder, or is one of the processes that generate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?", help="for all results")
    parser.add_argument("--only", nargs="+", choices=("generate", "evaluate", "stream", "distill"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=pathlib.Path, help=argparse.SUPPRESS)
    from rsd_jax.cli.flags.processes import add_process_flags

    add_process_flags(parser)
    args = parser.parse_args()
    if args.worker:
        from rsd_jax.cli.processes import together

        with together(args) if args.distributed else contextlib.nullcontext():
            generate(args.out)
        return
    if args.folder is None:
        parser.error("FOLDER is missing")
    root = args.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    places = {name: str(root / "models" / name) for name in _MODELS}
    places["library"] = str(_library(root / "library"))
    _write_models(root / "models")
    for name, text in {"sweep": _SWEEP, "stream": _STREAM, "distill": _DISTILL}.items():
        (root / f"{name}.py").write_text(text % places)
    wanted = args.only or ("generate", "evaluate", "stream", "distill")
    command = functools.partial(lambda name, file: ["rsd_jax.cli", name, "--config", str(file)])
    sweep = command("evaluate", root / "sweep.py")
    if "generate" in wanted:
        _same_tokens(root)
    if "evaluate" in wanted:
        both_ways("evaluate", sweep, root, "--config.out_dir")
        _same_rows("evaluate", root)
        _killed(root, sweep)
        _missing(root, sweep)
    if "stream" in wanted:
        both_ways("stream", command("stream", root / "stream.py"), root, "--config.out_dir")
        _same_rows("stream", root)
    if "distill" in wanted:
        mesh = ["--mesh", "2", "1", "2"]
        distill = [*command("distill", root / "distill.py"), *mesh]
        for stage in ("text", "target", "generate"):
            both_ways("distill", [*distill, "--stage", stage], root, "--workdir")
        _same_training(root, root / "distill.py")
    print("all holds")


if __name__ == "__main__":
    main()
