"""What long commands show, and what they say when Ctrl-C stops them."""

import pathlib
import types

import pytest

from rsd_jax.cli.commands import benchmark, distill, stream
from rsd_jax.cli.main import parser
from rsd_jax.distillation.responses.generate import ShardProgress
from rsd_jax.engine.methods import build_method
from rsd_jax.errors import ConfigError
from rsd_jax.testing.tiny_llama import tiny_pair
from tests.cli.speaking import rsd


@pytest.fixture
def stages(monkeypatch):
    """The stages that `rsd distill` runs; the stage `generate` writes two shards."""
    seen = []

    def run_stage(workspace, stage, progress):
        seen.append(stage)
        if stage == "draft":
            raise KeyboardInterrupt
        for shard in (1, 2) if stage == "generate" else ():
            progress(ShardProgress(shards=shard, total=2, responses=8, tokens=60, seconds=2.0))

    monkeypatch.setattr(distill, "run_stage", run_stage)
    monkeypatch.setattr(distill, "Workspace", lambda *parts: types.SimpleNamespace(parts=parts))
    return seen


def test_distill_shows_shards_and_says_where_its_files_are(stages, capsys, tmp_path):
    code, out, err = rsd(capsys, "distill", "--workdir", tmp_path)
    assert code == 130
    assert stages[-1] == "draft"
    assert "stage generate\nshard 1/2: 60 new tokens, 30 tokens/s" in out
    assert "shard 2/2" in out
    assert err.startswith("interrupted; complete stages and shards and the newest checkpoints")
    assert str(tmp_path) in err


def test_distill_runs_one_stage(stages, capsys, tmp_path):
    given = ("--config", "quickstart", "--stage", "generate", "--workdir", tmp_path)
    assert rsd(capsys, "distill", *given)[0] == 0
    assert stages == ["generate"]


def test_stream_says_where_its_rows_are(capsys, monkeypatch):
    class Session:
        path = pathlib.Path("out/results.jsonl")
        done = (1, 2)
        encoded = types.SimpleNamespace(tokens=[[1]] * 5)

        def __init__(self, *parts):
            """Needs no models."""

        def run(self, watch):
            watch("decoded", None)
            raise KeyboardInterrupt

    monkeypatch.setattr(stream, "Session", Session)
    pair = types.SimpleNamespace(target=None, tokenizer=None)
    monkeypatch.setattr(stream, "load_pair", lambda source, mesh: pair)
    code, _, err = rsd(capsys, "stream")
    assert code == 130
    assert err.splitlines()[-1] == (
        "interrupted; 2 of 5 instances were decoded, their rows are in out/results.jsonl; "
        "the same command goes on"
    )


def test_benchmark_says_where_its_rows_are(capsys, monkeypatch, tmp_path):
    def stopped(*parts):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "_models", lambda args: ("pair", None, None, [[1]]))
    monkeypatch.setattr(benchmark, "_measured", stopped)
    out = tmp_path / "rows.jsonl"
    given = ("--no-peers", "--megabytes", "1", "--out", out)
    code, _, err = rsd(capsys, "benchmark", *given)
    assert (code, err) == (130, f"interrupted; the rows of 0 of 2 batch sizes are in {out}\n")


def test_llama_cpp_takes_part_at_batch_size_1(capsys, monkeypatch, tmp_path):
    asked, peers = [], []

    def made(*parts, **options):
        asked.append((parts[0].name, options))
        return ["llama.cpp"]

    def stopped(*parts):
        peers.append(parts[3:])
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "_models", lambda args: ("pair", None, None, [[1], [2, 3]]))
    monkeypatch.setattr(benchmark, "llama_cpp_peers", made)
    monkeypatch.setattr(benchmark, "_measured", stopped)
    for batches in (("1", "8"), ("8", "1")):
        given = ("--batch_sizes", *batches, "--max_new_tokens", 9, "--draft_length", 3)
        others = ("--no-peers", "--megabytes", "1", "--out", tmp_path / "rows.jsonl")
        assert rsd(capsys, "benchmark", "--llama_cpp", "x.gguf", *given, *others)[0] == 130
    assert asked == [("x.gguf", {"capacity": 14, "lookups": (0, 3)})] * 2
    assert peers == [(["llama.cpp"], 1), ([], 8)]


def test_passes_are_timed_beside_one_product(capsys, monkeypatch):
    target, _ = tiny_pair()
    monkeypatch.setattr(benchmark, "_models", lambda args: ("tiny", target, None, [[1]]))
    monkeypatch.setattr(benchmark, "PASS_NODES", (1, 3))
    given = ("--passes", "--batch_sizes", "1", "2", "--repeats", "1", "--context", "5")
    code, out, err = rsd(capsys, "benchmark", *given)
    assert (code, err) == (0, "")
    assert "one matrix of the size of all weights" in out
    for batch in (1, 2):
        assert f"batch {batch}, 5 committed tokens" in out
    lines = [line.split("|")[1:-1] for line in out.splitlines() if line[:3] in ("| 1", "| 3")]
    one, three = lines[:2]
    assert float(one[2]) == 1.0
    assert float(three[1]) > 0.0
    assert float(one[3]) > 0.0


def test_which_methods_are_benchmarked():
    def methods(*given):
        return benchmark._methods(parser().parse_args(["benchmark", *given]))

    chosen = methods("--methods", "sd:3", "rsd_s:2x2:coupling", "sd:3", "ar:-")
    assert [(m.name, m.tree, m.verifier_name) for m in chosen][1:] == [
        ("sd", "3", "recursive_rejection"),
        ("rsd_s", "2x2", "coupling"),
    ]
    assert chosen[0] == methods()[0] == build_method("ar")
    assert {m.drafter.shape.depth for m in methods("--draft_length", "3")[2:]} == {3}
    with pytest.raises(ConfigError, match="--methods sd: write METHOD:TREE"):
        methods("--methods", "sd")
