"""Functions and the first lines of their docstrings, for the task `docstrings`."""

import ast
import dataclasses
import re
import warnings
from collections.abc import Sequence

from rsd_jax.distillation.data.corpus import SPLITS, SourceFile
from rsd_jax.tasks.docstrings import DOCSTRING_PROMPTS, MARKER, docstring_prompt
from rsd_jax.tasks.prompts import Prompt, load_prompts

# Source and summary fit easily in a window of 256 tokens. Limits are in characters, so that the
# choice does not depend on the tokenizer.
_SOURCE_CHARACTERS = 400
_SUMMARY_CHARACTERS = 100
_SUMMARY_WORDS = 4
_TRIVIAL = re.compile(
    r"deprecated|see also|undocumented|override|overridden|internal function|dummy"
    r"|not implemented|do not use|todo|xxx|^see\b|^same as|->|>>>",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of a source file.

    Attributes:
      name: file and line of its first line.
      source: code without docstring and indentation, in whole lines, cut if it is long.
      summary: first line of the docstring, "" without a docstring.
      usable: whether the summary is a sentence that describes the body.
    """

    name: str
    source: str
    summary: str
    usable: bool


def _summary_is_usable(docstring: str) -> bool:
    first, _, rest = docstring.partition("\n")
    follows = rest.partition("\n")[0].strip()
    return (
        (first.endswith(".") or not follows)  # else the sentence goes on in the next line
        and first.isascii()
        and first[:1].isalpha()
        and first[:1].isupper()
        and len(first) <= _SUMMARY_CHARACTERS
        and len(first.split()) >= _SUMMARY_WORDS
        and not _TRIVIAL.search(first)
    )


def _body_is_a_stub(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    # A constant is the docstring or an ellipsis.
    return all(
        isinstance(statement, (ast.Pass, ast.Raise))
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in node.body
    )


def _source(lines: Sequence[str], node: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    """Code without docstring, or None if other code is on the docstring's lines."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    own = list(lines[first : node.end_lineno])
    if ast.get_docstring(node, clean=False) is not None:
        docstring = node.body[0]
        before = lines[docstring.lineno - 1].encode()[: docstring.col_offset]
        after = lines[(docstring.end_lineno or 0) - 1].encode()[docstring.end_col_offset :]
        if before.strip() or after.strip():
            return None
        del own[docstring.lineno - 1 - first : (docstring.end_lineno or 0) - first]
    indentation = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    kept, size = [], 0
    for line in own:
        line = line.removeprefix(indentation).rstrip()
        size += len(line) + 1
        if size > _SOURCE_CHARACTERS:
            break
        kept.append(line)
    return "\n".join(kept).rstrip()


def functions(file: SourceFile) -> list[Function]:
    """The functions and methods of a file by line; none if the file cannot be parsed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in strings
        try:
            tree = ast.parse(file.text)
        except SyntaxError:
            return []
    # splitlines() would also split at form feeds, which line numbers do not count.
    lines = file.text.split("\n")
    found = []
    nodes = (n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    for node in sorted(nodes, key=lambda node: node.lineno):
        source = _source(lines, node)
        if not source:
            continue
        docstring = (ast.get_docstring(node) or "").strip()
        summary = " ".join(docstring.partition("\n")[0].split())
        usable = _summary_is_usable(docstring) and not _body_is_a_stub(node)
        name = f"{file.name}:{node.lineno}"
        found.append(Function(name, source, summary, usable and source.isascii()))
    return found


def _keys(function: Function) -> set[str]:
    """Source and summary; two functions that share either count as equal."""
    summary = function.summary.casefold().rstrip(".")
    return {function.source, summary} if summary else {function.source}


def _reserved() -> set[str]:
    """The keys of the test prompts that ship; none if their file does not exist yet."""
    if not DOCSTRING_PROMPTS.is_file():
        return set()
    shipped = [
        Function(p.name, p.text.removesuffix(MARKER), p.reference.strip(), True)
        for p in load_prompts(DOCSTRING_PROMPTS)
    ]
    return {key for function in shipped for key in _keys(function)}


def docstring_examples(files: Sequence[SourceFile]) -> dict[str, list[Prompt]]:
    """Examples per split of `SPLITS`, in the order of the files.

    No held-out example has the source or the summary of any function in a training file, nor of
    another held-out example. Training examples differ in their sources. None has the source or
    the summary of a test prompt that ships: another version of the library might have the
    function in another file.
    """
    found: dict[str, list[Function]] = {split: [] for split in SPLITS}
    for file in files:
        found["heldout" if file.held_out else "train"] += functions(file)
    chosen: dict[str, list[Function]] = {split: [] for split in SPLITS}
    reserved, sources = _reserved(), set()
    for function in found["train"]:
        if function.usable and function.source not in sources and not _keys(function) & reserved:
            chosen["train"].append(function)
            sources.add(function.source)
    taken = {key for function in found["train"] for key in _keys(function)}
    for function in found["heldout"]:
        if function.usable and not _keys(function) & taken:
            chosen["heldout"].append(function)
            taken |= _keys(function)
    return {
        split: [docstring_prompt(f.name, f.source, f.summary) for f in chosen[split]]
        for split in SPLITS
    }


def cut_docstring_prompts(examples: Sequence[Prompt], *, per_file: int = 50) -> list[Prompt]:
    """At most `per_file` of each file's held-out `examples`, spread over the file.

    Files take turns, so that the first prompts come from many files.
    """
    by_file: dict[str, list[Prompt]] = {}
    for example in examples:
        by_file.setdefault(example.name.rpartition(":")[0], []).append(example)
    spread = [found[:: -(-len(found) // per_file)] for found in by_file.values()]
    return [found[turn] for turn in range(per_file) for found in spread if turn < len(found)]
