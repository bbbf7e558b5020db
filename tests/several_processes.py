"""Holds two processes of two CPU devices each against one process of four.

    python -m tests.several_processes FOLDER

generates, trains and writes responses both ways, runs `rsd evaluate`, `rsd stream` and all stages
of `rsd distill` both ways, and compares tokens, counts and weights. A process is killed in the
middle of a sweep, which then goes on; and a process waits for one that never starts. The processes
talk over sockets of this machine (127.0.0.1), so this is a script and not a test of the suite. It
takes some minutes. FOLDER can be removed afterwards.
"""

import argparse
import contextlib
import dataclasses
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
_PARTS = ("work", "evaluate", "stream", "distill")
STEPS = 20
RELATIVE = 1e-5
"""Bound of the difference of weights after these steps, relative to a leaf's largest weight."""

_SWEEP = """
from configs.evaluate import experiment1, pairs
def get_config():
    config = experiment1.get_config("quick").unlock()
    config.pairs = dict(tiny=pairs.pair(target=%(target)r, draft=%(draft)r))
    config.tasks = dict(number_words=pairs.task(
        num_prompts=6, max_new_tokens=24, temperatures=(0.5,)))
    config.trees = dict(sd=("2",))
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
    for stage in ("target", "draft_warm_start", "draft"):
        config[stage].model.update(
            vocab_size=300, hidden_size=16, intermediate_size=16, head_dim=4, num_layers=1,
            num_heads=2, num_kv_heads=1, max_positions=1024)
        config[stage].recipe.update(
            steps=4, batch_size=4, window=240, eval_windows=4, eval_batch_size=4, accumulate=1,
            checkpoint_every=2, warmup_steps=1, learning_rate=1e-3, optimizer="adamw",
            compute_dtype="float32", remat=False)
    config.update(corpus_root=%(library)r, vocab_size=300, max_prompt_tokens=200)
    config.number_words.update(train=20, heldout=2)
    config.prompts.update(library=0, number_words=4, docstrings=4)
    config.responses.update(batch_size=4, max_new_tokens=8, top_logprobs=8)
    config.decode.update(max_new_tokens=8, batch_size=4)
    config.decode.prompts = {"number_words": 4}
    config.decode.scored = {"number_words": 2}
    config.decode.methods = {"sd_1": {"name": "sd", "length": 1}}
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


def work(out: pathlib.Path) -> None:
    """Generates on a mesh of 2 x 2, trains on one of 2 x 1 x 2, and writes responses."""
    import jax

    import rsd_jax
    from rsd_jax.core.processes import on_writer
    from rsd_jax.core.sharding import make_mesh
    from rsd_jax.distillation.responses.generate import generate_responses
    from rsd_jax.distillation.settings import ResponseSettings, TrainingSettings
    from rsd_jax.distillation.training.train import train
    from rsd_jax.models.llama import LlamaModel
    from rsd_jax.models.loading import load_tokenizer
    from rsd_jax.testing.tiny_llama import TINY_CONFIG

    jax.config.update("jax_numpy_dtype_promotion", "standard")
    models = out.parents[1] / "models"
    target, draft = (rsd_jax.load_model(models / name, mesh=make_mesh((2, 2))) for name in _MODELS)
    prompts = [[1, 2, 3], [4, 5], [6, 7, 8, 9], [10], [11, 12]]
    method = rsd_jax.build_method("rsd_s", width=2, length=2)
    result = rsd_jax.generate(
        method, target, draft, prompts, max_new_tokens=24, temperature=0.5, batch_size=4
    )
    counts = {key: value.tolist() for key, value in vars(result.stats).items()}
    on_writer((out / "tokens.json").write_text, json.dumps([result.tokens, counts]))

    recipe = TrainingSettings(
        steps=STEPS, batch_size=4, window=32, learning_rate=1e-2, log_every=5, checkpoint_every=10
    )
    text = np.random.default_rng(0).integers(2, 32, 2000).astype(np.uint16)
    train(LlamaModel(TINY_CONFIG), recipe, text, out / "training", mesh=make_mesh((2, 1, 2)))

    settings = ResponseSettings(
        temperatures=(0.7,), max_new_tokens=8, batch_size=4, prompts_per_shard=3, top_logprobs=4
    )
    named = {f"prompt {index}": prompt for index, prompt in enumerate(prompts)}
    tokenizer = load_tokenizer(models / "target")
    generate_responses(target, named, settings, out / "responses", tokenizer=tokenizer)


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


def _same_work(root: pathlib.Path) -> None:
    both_ways("work", ["tests.several_processes", "--worker"], root, "--out")
    one, two = (root / "work" / way for way in _WAYS)
    tokens = [json.loads((way / "tokens.json").read_text()) for way in (one, two)]
    check("tokens and counts of `generate` are the same", holds=tokens[0] == tokens[1])
    _same_responses(one / "responses", two / "responses")
    mine, yours = (_weights(way / "training") for way in (one, two))
    worst = max(float(np.abs(mine[k] - yours[k]).max() / np.abs(mine[k]).max()) for k in mine)
    check(f"weights after {STEPS} steps differ by {worst:.1e}", holds=worst <= RELATIVE)
    losses = [(way / "training" / "metrics.jsonl").read_text().count("\n") for way in (one, two)]
    check(f"{losses[0]} rows of losses, written once", holds=losses[0] == losses[1])


def _same_responses(one: pathlib.Path, two: pathlib.Path) -> None:
    shards = [sorted(way.glob("*.npz")) for way in (one, two)]
    same = [path.name for path in shards[0]] == [path.name for path in shards[1]]
    for ours, theirs in zip(*shards, strict=True):
        a, b = np.load(ours), np.load(theirs)
        same &= all(np.array_equal(a[k], b[k]) for k in ("tokens", "length", "request_id", "ended"))
    check(f"responses: tokens of {len(shards[0])} shards are the same", holds=same)


def _write_library(folder: pathlib.Path) -> None:
    """Eighty Python files, each with a function that has a docstring."""
    folder.mkdir(exist_ok=True)
    for i in range(80):
        body = "".join(f"    total_{j} = argument + {j}\n" for j in range(60))
        (folder / f"module{i}.py").write_text(
            f'def function_{i}(argument):\n    """Return the argument plus {i}."""\n'
            f"    return argument + {i}\n\n\ndef long_{i}(argument):\n{body}"
        )


def _weights(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The parameters of the newest checkpoint, on one device."""
    import flax.traverse_util

    from rsd_jax.distillation.settings import TrainingSettings
    from rsd_jax.distillation.training.checkpoints import Checkpoints
    from rsd_jax.distillation.training.step import abstract_state
    from rsd_jax.models.llama import LlamaModel
    from rsd_jax.testing.tiny_llama import TINY_CONFIG

    recipe = TrainingSettings(steps=STEPS, batch_size=4)
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as saved:
        step, state = saved.restore(abstract_state(LlamaModel(TINY_CONFIG), recipe))
    assert step == STEPS
    flat = flax.traverse_util.flatten_dict(state.params, sep="/")
    return {name: np.asarray(leaf) for name, leaf in flat.items()}


def _same_distillation(root: pathlib.Path, command: Sequence[str]) -> None:
    both_ways("distill", command, root, "--workdir")
    one, two = (root / "distill" / way for way in _WAYS)
    _same_responses(one / "responses", two / "responses")
    from safetensors.numpy import load_file

    for name in _MODELS:
        mine, yours = (load_file(way / "export" / name / "model.safetensors") for way in (one, two))
        pairs = [(mine[key].astype(np.float32), yours[key].astype(np.float32)) for key in mine]
        widest = max(float(np.abs(a - b).max()) for a, b in pairs)
        # The weights are written in bfloat16: neighbours differ by up to one part in 128.
        near = all((np.abs(a - b) <= np.abs(a) / 128 + RELATIVE).all() for a, b in pairs)
        check(f"distill: the {name}'s weights differ by {widest:.1e}", holds=near)
    made = [json.loads((way / "decode.json").read_text())["rows"] for way in (one, two)]
    counts = [[(row["produced"], row["blocks"], row["tokens"]) for row in rows] for rows in made]
    check(f"distill: {len(counts[0])} rows of counts are the same", holds=counts[0] == counts[1])


# --- rows -----------------------------------------------------------------------------------------


def _counted(path: pathlib.Path) -> list[dict[str, Any]]:
    """Rows without what time and the machine decide."""
    kept = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        timed = ("time", "seconds", "rate", "hardware", "versions", "created", "latency", "overall")
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


def main() -> None:
    """Runs everything in a folder, or is one of the processes that generate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?", help="for all results")
    parser.add_argument("--only", nargs="+", choices=_PARTS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=pathlib.Path, help=argparse.SUPPRESS)
    from rsd_jax.cli.flags.processes import add_process_flags

    add_process_flags(parser)
    args = parser.parse_args()
    if args.worker:
        from rsd_jax.cli.processes import together

        with together(args) if args.distributed else contextlib.nullcontext():
            work(args.out)
        return
    if args.folder is None:
        parser.error("FOLDER is missing")
    root = args.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    places = {name: str(root / "models" / name) for name in _MODELS}
    places["library"] = str(root / "library")
    _write_models(root / "models")
    _write_library(root / "library")
    for name, text in {"sweep": _SWEEP, "stream": _STREAM, "distill": _DISTILL}.items():
        (root / f"{name}.py").write_text(text % places)
    wanted = args.only or _PARTS
    sweep = ["rsd_jax.cli", "evaluate", "--config", str(root / "sweep.py")]
    stream = ["rsd_jax.cli", "stream", "--config", str(root / "stream.py")]
    if "work" in wanted:
        _same_work(root)
    if "evaluate" in wanted:
        _missing(root, sweep)
        both_ways("evaluate", sweep, root, "--config.out_dir")
        _same_rows("evaluate", root)
        _killed(root, sweep)
    if "stream" in wanted:
        both_ways("stream", stream, root, "--config.out_dir")
        _same_rows("stream", root)
    if "distill" in wanted:
        distill = ["rsd_jax.cli", "distill", "--config", str(root / "distill.py")]
        _same_distillation(root, [*distill, "--mesh", "2", "1", "2"])
    print("all holds")


if __name__ == "__main__":
    main()
