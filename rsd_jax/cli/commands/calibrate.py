"""`rsd calibrate`: expected tokens per second of methods, in a file and as tables."""

import argparse
import sys
from collections.abc import Sequence

from rsd_jax.cli.chosen import pair_of
from rsd_jax.cli.flags.calibrate import METHODS, WITHOUT_DRAFT
from rsd_jax.cli.interrupts import keeping
from rsd_jax.cli.measured import methods_of, prompts_of
from rsd_jax.cli.progress import Progress
from rsd_jax.planning import Calibration, Held, against, calibrate, load_calibration
from rsd_jax.planning.calibrate import steps
from rsd_jax.records.files import check_writable, read_rows
from rsd_jax.reporting.table_formats import Table


def run(args: argparse.Namespace) -> None:
    """Calibrates, writes the file `args.out` and prints a table per temperature.

    With `args.against`, compares the file with measured rows instead.
    """
    if args.against:
        held = against(load_calibration(args.out), read_rows(args.against))
        print(table_against(held).aligned())
        return
    check_writable(args.out)  # an error here comes before measuring
    pair = pair_of(args)
    default = METHODS if pair.draft is not None else WITHOUT_DRAFT
    methods = methods_of(args.methods or default.split())
    temperatures = list(dict.fromkeys(args.temperatures))
    prompts = prompts_of(args, pair.tokenizer)
    total = steps(methods, temperatures)
    with keeping(lambda: "nothing is kept"), Progress(total, file=sys.stderr, every=1) as progress:
        calibration = calibrate(
            pair.target,
            pair.draft,
            prompts,
            methods,
            temperatures=temperatures,
            repeats=args.repeats,
            timed_rows=args.timed_rows,
            report=progress,
            max_new_tokens=args.max_new_tokens,
            batch_size=args.batch_size,
            top_k=args.top_k,
            top_p=args.top_p,
            eos_id=pair.eos_ids,
        )
    calibration.save(args.out)
    for temperature in temperatures:
        print(f"\nT = {temperature:g}")
        print(table(calibration, temperature).aligned())
    print(f"\ncalibration: {args.out}")


def table(calibration: Calibration, temperature: float) -> Table:
    """The methods at one temperature, the fastest first."""
    found = calibration.at(temperature)
    (base,) = [each for each in found if each.method == "ar"]
    rows = [
        (
            each.method,
            each.tree,
            "" if each.method == "ar" else each.verifier,
            f"{each.tokens:.2f}",
            f"{each.standard_error:.2f}" if each.blocks else "",
            f"{each.seconds * 1e3:.2f}",
            f"{each.tokens_per_second:.1f}",
            f"{each.tokens_per_second / base.tokens_per_second:.2f}",
        )
        for each in found
    ]
    heads = ("method", "tree", "verifier", "tokens/block", "±", "ms/block", "tokens/s", "to ar")
    return Table(heads, rows, frozenset({0, 1, 2}))


def table_against(held: Sequence[Held]) -> Table:
    """What was predicted and what was measured, a line per method."""
    rows = []
    for each in held:
        known = each.expected
        blocks = (known.tokens, each.block_efficiency)
        ratios = (each.predicted_ratio, each.rate_ratio)
        off = [f"{100 * (ours / other - 1):+.0f} %" for ours, other in (blocks, ratios)]
        named = (f"{known.temperature:g}", known.method, known.tree, known.verifier)
        shown = [f"{number:.2f}" for number in (*blocks, *ratios)]
        rows.append((*named, *shown[:2], off[0], *shown[2:], off[1]))
    heads = ("T", "method", "tree", "verifier", "tokens/block", "measured", "off")
    return Table((*heads, "to ar", "measured", "off"), rows, frozenset({1, 2, 3}))
