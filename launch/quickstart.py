"""Decodes held-out prompts with five methods, one of them with two verifiers; shows their speed.

See python launch/quickstart.py --help; launch/quickstart.sh first makes an environment.
"""

import argparse
import pathlib
import textwrap

from launcher import ROOT, Parser, run

import rsd_jax
from rsd_jax.cli.pairs import load_pair
from rsd_jax.cli.progress import Progress
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.comparison import compare, steps
from rsd_jax.evaluation.measured_rows import comparison_rows
from rsd_jax.evaluation.prompts import texts, token_ids
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.records.files import append_row
from rsd_jax.reporting.comparison.bars import plot_comparison
from rsd_jax.reporting.comparison.table import comparison_table
from rsd_jax.tasks import get_task
from rsd_jax.tasks.prompts import load_prompts
from rsd_jax.text.encoding import encode

# Small trees, as on a CPU a wide pass costs as much as several narrow passes.
METHODS = (
    ("ar", {}),
    ("sd", {"length": 4}),
    ("spectr", {"num_drafts": 3, "length": 4}),
    ("rsd_c", {"branching": (2, 2, 1, 1)}),
    ("rsd_s", {"width": 4, "length": 4}),
    ("rsd_s", {"width": 4, "length": 4, "verifier": "coupling"}),
)
PAIR = "quickstart"
TASK = "completion"
SHOWN_METHOD = "rsd_s"
SHOWN_PROMPT = 10
SHOWN_PROMPT_LINES = 8
RULE = "-" * 80


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument(
        "--pair_dir", type=pathlib.Path, help="folder with target/ and draft/ of another pair"
    )
    parser.add_argument(
        "--tokenizer", default="", help="with --pair_dir: its tokenizer, if target/ has none"
    )
    parser.add_argument("--num_prompts", type=int, default=16, help="prompts to decode")
    parser.add_argument("--max_new_tokens", type=int, default=128, help="limit per prompt")
    parser.add_argument("--temperature", type=float, default=0.3, help="0 is greedy")
    parser.add_argument("--top_p", type=float, default=1.0, help="1 keeps every token")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    parser.add_argument(
        "--out_dir",
        type=pathlib.Path,
        default=ROOT / "runs/quickstart-results",
        help="folder of rows and figure",
    )
    args = parser.read()
    if args.tokenizer and args.pair_dir is None:
        parser.error("--tokenizer is for a pair of your own; give --pair_dir")
    return args


def _load_pair(directory: pathlib.Path | None, tokenizer: str) -> tuple[str, rsd_jax.LoadedPair]:
    if directory is None:
        return PAIR, rsd_jax.load_pair(PAIR)
    target, draft = (str(directory / name) for name in ("target", "draft"))
    source = PairSource(target=target, draft=draft, tokenizer=tokenizer)
    return directory.name, load_pair(source)


def _sample(prompt: str, completion: str, reference: str, source: str) -> str:
    tail = "\n".join(prompt.rstrip("\n").split("\n")[-SHOWN_PROMPT_LINES:])
    return "\n".join(
        [
            f"{' end of the prompt ':-^80}",
            tail,
            f"{f' completion by {SHOWN_METHOD} ':-^80}",
            completion.rstrip("\n"),
            f"{f' {source} ':-^80}",
            reference.rstrip("\n"),
            RULE,
        ]
    )


def _translation(pair: rsd_jax.LoadedPair, method: rsd_jax.Method, seed: int) -> str:
    """The greedy answer to the shortest of the first 20 test prompts of the task `number_words`."""
    task = get_task("number_words")
    prompt = min(task.test_prompts(20), key=lambda prompt: len(prompt.text))
    result = rsd_jax.generate(
        method,
        pair.target,
        pair.draft,
        token_ids([prompt], pair.tokenizer),
        max_new_tokens=task.max_new_tokens,
        temperature=0.0,
        seed=seed,
        eos_id=pair.eos_ids,
    )
    (answer,) = texts(pair.tokenizer, result.tokens, pair.eos_ids)
    text = task.answer(answer)
    shown = ["\n".join(textwrap.wrap(part, 80)) for part in (text, prompt.reference.strip())]
    asked = "\n".join("\n".join(textwrap.wrap(line, 80)) for line in prompt.text.split("\n"))
    return _sample(asked, *shown, "the reference")


def main() -> None:
    args = _arguments()
    shipped = load_prompts()
    if not 1 <= args.num_prompts <= len(shipped):
        raise rsd_jax.ConfigError(
            f"--num_prompts={args.num_prompts} must lie between 1 and {len(shipped)}"
        )
    args.out_dir.mkdir(parents=True, exist_ok=True)  # an error here comes before measuring
    prompts = shipped[: args.num_prompts]
    name, pair = _load_pair(args.pair_dir, args.tokenizer)
    methods = [rsd_jax.build_method(method, **options) for method, options in METHODS]
    ids = token_ids(prompts, pair.tokenizer)
    sampling = Sampling(
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        top_p=args.top_p,
        seed=args.seed,
        eos_ids=pair.eos_ids,
    )

    print(
        f"held-out prompts: {len(ids)}, new tokens each: up to {args.max_new_tokens}, "
        f"T = {args.temperature:g}, batch 1; the first run also compiles",
        flush=True,
    )
    with Progress(steps(methods, ids)) as progress:
        measured, _ = compare(methods, pair.target, pair.draft, ids, sampling, progress)

    rows = comparison_rows(
        measured, pair.target, pair.draft, sampling, source="quickstart", pair=name, task=TASK
    )
    rows_path = args.out_dir / "rows.jsonl"
    for row in rows:
        append_row(rows_path, row)
    figure_path = plot_comparison(rows, args.out_dir / "quickstart.png")

    shown = next(m for m in measured if m.method.name == SHOWN_METHOD)
    which = min(SHOWN_PROMPT, len(prompts) - 1)
    reference = encode(pair.tokenizer, prompts[which].reference, add_special=False)
    both = [shown.tokens[which], reference[: args.max_new_tokens]]
    written = texts(pair.tokenizer, both, pair.eos_ids)
    print("\n" + _sample(prompts[which].text, *written, "what CPython goes on with"))
    print("\n" + _translation(pair, shown.method, args.seed))
    print()
    print(comparison_table(rows))
    compile_time = sum(m.compile_time for m in measured)
    print(
        f"\ncompiling, or reading compiled programs, took {compile_time:.1f} s (not in the rates)"
    )
    print(f"rows:   {rows_path}\nfigure: {figure_path}")


if __name__ == "__main__":
    run(main)
