"""Measures the anonymous memory that loading a sharded checkpoint takes beyond the weights.

    python -m tests.loading_memory FOLDER

writes a random Llama of 2.4 GB in three shards to FOLDER (about 5 GB of memory), and loads it in
fresh processes: on one device, and on a mesh of four devices of the CPU. A bound of 1.2 times the
largest tensor is checked. Linux only: reads /proc. FOLDER can be removed afterwards.
"""

import argparse
import math
import os
import pathlib
import subprocess
import sys
import time

BOUND = 1.2
_EVERY = 0.001  # seconds between two looks at the memory of the process that loads
_LOAD = """
import jax, rsd_jax, sys
jax.config.update("jax_num_cpu_devices", 4)
mesh = jax.make_mesh((1, 4), ("data", "model")) if sys.argv[2] == "mesh" else None
jax.block_until_ready(jax.numpy.zeros(4) + 1)
print("ready", flush=True)
loaded = rsd_jax.load_model(sys.argv[1], dtype=sys.argv[3], compute_dtype=sys.argv[3], mesh=mesh)
jax.block_until_ready(loaded.params)
print(max(leaf.nbytes for leaf in jax.tree.leaves(loaded.params)), flush=True)
sys.stdin.readline()
"""


def write_checkpoint(folder: pathlib.Path) -> None:
    """Three shards of random bfloat16 weights."""
    import flax.traverse_util
    import ml_dtypes
    import numpy as np

    from rsd_jax.models.checkpoint import save_model
    from rsd_jax.models.config import LlamaConfig
    from rsd_jax.models.families import family_of

    config = LlamaConfig(
        vocab_size=65_536,
        hidden_size=2048,
        intermediate_size=5632,
        num_layers=18,
        num_heads=16,
        num_kv_heads=16,
        head_dim=128,
    )
    rng, flat = np.random.default_rng(0), {}
    for spec in family_of(config).tensors(config).values():
        flat[spec.path] = rng.standard_normal(spec.shape, np.float32).astype(ml_dtypes.bfloat16)
    size = sum(math.prod(array.shape) * 2 for array in flat.values())
    params = flax.traverse_util.unflatten_dict(flat)
    save_model(folder, config, params, max_shard_bytes=size * 2 // 5)
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    print(f"{folder}: {size / 1e9:.2f} GB in {len(shards)} shards")


def anonymous_bytes(process: int) -> int:
    """Resident anonymous memory of a process."""
    for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{process}/status has no RssAnon")


def measure(folder: pathlib.Path, where: str, dtype: str) -> float:
    """Peak minus final anonymous memory of a load, in units of the largest tensor."""
    command = [sys.executable, "-c", _LOAD, str(folder), where, dtype]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    os.set_blocking(child.stdout.fileno(), False)
    start, peak, said = time.perf_counter(), 0, ""
    while not said:
        peak = max(peak, anonymous_bytes(child.pid))
        time.sleep(_EVERY)
        said = child.stdout.readline()
        if child.poll() is not None:
            raise OSError("the process that loads has died")
    seconds, final, largest = time.perf_counter() - start, anonymous_bytes(child.pid), int(said)
    child.communicate("\n")
    ratio = (peak - final) / largest
    print(
        f"{where}, {dtype}: peak {peak / 2**20:.0f} MiB, final {final / 2**20:.0f} MiB, largest "
        f"tensor {largest / 2**20:.0f} MiB: (peak - final) / largest = {ratio:.2f}; {seconds:.1f} s"
    )
    return ratio


def main() -> None:
    """Writes, measures, and fails if a load takes more than the bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="for the checkpoint, if it is not there")
    folder = parser.parse_args().folder
    if not (folder / "config.json").exists():
        write_checkpoint(folder)
    ratios = [
        measure(folder, where, dtype)
        for where in ("one device", "mesh")
        for dtype in ("bfloat16", "float32")
    ]
    if max(ratios) > BOUND:
        sys.exit(f"above the bound of {BOUND}")


if __name__ == "__main__":
    main()
