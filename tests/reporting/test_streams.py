"""Figure and tables of a stream of instances, from rows alone; the numbers are made up."""

import dataclasses

import pytest

from rsd_jax.errors import ConfigError
from rsd_jax.records.files import append_row, read_rows
from rsd_jax.records.hardware import Hardware
from rsd_jax.reporting.page import Output
from rsd_jax.reporting.report import write_report
from rsd_jax.reporting.stream.streams import streams_of
from rsd_jax.reporting.stream.tables import latency_table, search_table, summary_table
from tests import synthetic_rows

_HARDWARE = Hardware(cpu="a cpu", cores=2, backend="cpu", device="cpu", num_devices=1)
_STOP = 15
_SEARCH = {"suggest": 10.0, "matchness": 90.0, "read": 20.0}  # microseconds per token


def _row(**values):
    shared = dict(
        source="stream",
        kind="stream",
        experiment="stream",
        pair="llama2_13b",
        task="xsum",
        temperature=0.0,
        seed=0,
        hardware=_HARDWARE,
        versions={},
        max_new_tokens=128,
        dtype="bfloat16",
        config_hash="0" * 16,
        prompts_sha256="a" * 64,
        weights_sha256="b" * 64,
        draft_length=25,
        method="swift",
        tree="25",
        target_budget=130,
        prefill_timed=True,
    )
    return synthetic_rows.make(**shared | values)


def rows(count=60):
    """Made-up rows: matchness and overall speed-up rise until the search stops."""
    made = []
    for i in range(count):
        share = min(i, _STOP) / _STOP
        ar = dict(method="ar", tree="-", draft_length=0, instance=i, num_prompts=1)
        made.append(_row(**ar, token_rate=30.0, tokens=100, seconds=3.3, overall_ratio=1.0))
        made.append(
            _row(
                instance=i,
                num_prompts=1,
                skip_ratio=0.45,
                token_rate=45.0,
                token_rate_ratio=1.5 + 0.03 * (i % 3 - 1),
                overall_ratio=1.3 + 0.2 * share,
                matchness=0.4 + 0.55 * share,
                searching=i + 1 < _STOP,
                kept_fraction=0.6,
                tokens=100,
                blocks=30,
                produced=101,
                drafted=110,
                seconds=2.0,
                candidates=5 * (i < _STOP),
                search_times={name: us * 1e-6 * (i < _STOP) for name, us in _SEARCH.items()},
            )
        )
    phases = {"optimize": 0.0003, "draft": 0.02, "verify": 0.009, "others": 0.002}
    made.append(
        _row(
            num_prompts=count,
            token_rate=45.0,
            skip_ratio=0.45,
            tokens=100 * count,
            produced=101 * count,
            blocks=30 * count,
            block_efficiency=101 / 30,
            mbsu=1.4,
            drafted=110 * count,
            seconds=2.2 * count,
            overall_ratio=1.5,
            matchness=0.95,
            searching=False,
            token_phase_times=phases,
            token_phase_deviations={name: value / 10 for name, value in phases.items()}
            | {"total": 0.01},
        )
    )
    return made


def test_a_stream_is_its_instances_and_its_whole():
    made = rows()
    # Of an instance that was measured twice the last counts.
    (stream,) = streams_of([*made[:2], *made])
    assert [row.stream.instance for row in stream.instances] == list(range(60))
    assert stream.whole == made[-1]
    assert stream.stopped_after == _STOP
    assert stream.label == "Llama-2-13B / XSum, swift 25 of up to 130 nodes, 0.45 skipped, T = 0"
    table = latency_table(stream)
    assert [row[0] for row in table.rows] == ["Optimize", "Draft", "Verify", "Others", "Total"]
    assert table.rows[1][1:] == ("20.00 ± 2.00", "63.9")
    assert table.rows[-1][1:] == ("31.30 ± 10.00", "100.0")
    ((_, count, stop, match, kept, tau, bound, share, *_),) = summary_table([stream]).rows
    assert (count, stop, match, kept) == ("60", "15", "0.95", "0.60")
    assert (tau, bound, share) == ("3.37", "1.40", "0.65")
    whole, until = search_table([stream]).rows
    # 15 of 60 instances search; 120 of their 20000 microseconds per token.
    assert whole[1:] == ("1 to 60", "75", "2.5", "22.5", "5.0", "30.0", "0.15")
    assert until[1:] == ("1 to 15", "75", "10.0", "90.0", "20.0", "120.0", "0.60")
    (unended,) = streams_of(made[:20])
    assert (unended.whole, unended.stopped_after) == (None, None)
    assert summary_table([unended]).rows[0][1] == "10"
    # Rows of before do not tell the tree's size and what the search took.
    empty = dict(target_budget=None, skip_ratio=None, search_times=None)
    resumed = [
        synthetic_rows.changed(row, **empty) if row.search else row for row in made[:20]
    ] + made[20:]
    (stream,) = streams_of(resumed)
    assert len(stream.instances) == 60
    assert search_table([stream]).rows == []
    other = [dataclasses.replace(row, seed=1) for row in made]
    assert len(streams_of([*made, *other])) == 2


def test_the_report_draws_it(tmp_path):
    path = tmp_path / "results.jsonl"
    for row in rows(20):
        append_row(path, row)
    written = write_report(read_rows(path), Output(tmp_path / "out", formats=("png",)))
    assert (tmp_path / "out/stream_1.png") in written
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "Streams of instances" in page
    assert "Latency" in page
    # Rows of "ar" alone are no stream.
    with pytest.raises(ConfigError, match="none of 1 rows"):
        write_report(rows(1)[:1], Output(tmp_path / "none"))
