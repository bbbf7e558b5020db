"""`rsd calibrate`: expected tokens per second of methods, in a file and as tables."""

import argparse
import statistics
import sys

from rsd_jax.cli.chosen import pair_of
from rsd_jax.cli.flags.calibrate import METHODS, WITHOUT_DRAFT
from rsd_jax.cli.interrupts import keeping
from rsd_jax.cli.measured import methods_of, prompts_of
from rsd_jax.cli.predictions import compare
from rsd_jax.cli.progress import Progress
from rsd_jax.core.types import LoadedModel
from rsd_jax.planning import BlockCosts, Calibration, calibrate, measure_costs
from rsd_jax.planning.calibrate import steps
from rsd_jax.planning.seconds import batches_to_time
from rsd_jax.records.files import check_writable
from rsd_jax.reporting.table_formats import Table


def run(args: argparse.Namespace) -> None:
    """Calibrates, writes the file `args.out` and prints a table per temperature.

    With `args.against`, compares the file with measured rows instead.
    """
    if args.against:
        compare(args)
        return
    check_writable(args.out)  # an error here comes before measuring
    pair = pair_of(args)
    draft, default = pair.draft, METHODS if pair.draft is not None else WITHOUT_DRAFT
    prompts = prompts_of(args, pair.tokenizer)

    timed = {"timed_rows": args.timed_rows, "timed_batches": args.timed_batches}
    batches_to_time([len(prompt) for prompt in prompts], *timed.values())  # checks the numbers

    def costs(draft: LoadedModel, nodes: int) -> BlockCosts:
        context = int(statistics.median(map(len, prompts))) + args.max_new_tokens // 2
        print(f"timing passes of both models over 1 to {nodes} tokens", file=sys.stderr)
        with keeping(lambda: "nothing is kept"):
            return measure_costs(
                pair.target,
                draft,
                context=context,
                batch_size=args.timed_rows,
                max_nodes=nodes,
            )

    methods = methods_of(
        args.methods or default.split(), None if draft is None else lambda n: costs(draft, n)
    )
    temperatures = list(dict.fromkeys(args.temperatures))
    total = steps(methods, temperatures, len(prompts), **timed)
    with keeping(lambda: "nothing is kept"), Progress(total, file=sys.stderr, every=1) as progress:
        calibration = calibrate(
            pair.target,
            draft,
            prompts,
            methods,
            temperatures=temperatures,
            repeats=args.repeats,
            **timed,
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
            f"{each.prompt_seconds * 1e3:.0f}",
            f"{each.tokens_per_second:.1f}",
            f"{each.tokens_per_second / base.tokens_per_second:.2f}",
        )
        for each in found
    ]
    heads = ("method", "tree", "verifier", "tokens/block", "±", "ms/block", "ms/prompts")
    return Table((*heads, "tokens/s", "to ar"), rows, frozenset({0, 1, 2}))
