"""Tables as aligned text, Markdown, LaTeX and HTML, with text escaped for each format."""

import dataclasses
import html
from collections.abc import Sequence

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "≥": r"$\geq$",
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells of text under heads.

    Attributes:
      heads: one per column.
      rows: each with one cell per column.
      text: indices of text columns, which are aligned left; numbers are aligned right.
      title: title above the table, left out in aligned text.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: frozenset[int] = frozenset({0, 1})
    title: str = ""

    def aligned(self) -> str:
        """For a terminal."""
        widths = self._widths(self.rows)
        rule = "  ".join("-" * width for width in widths)
        lines = ["  ".join(self._padded(row, widths)).rstrip() for row in (self.heads, *self.rows)]
        return "\n".join([lines[0], rule, *lines[1:]])

    def markdown(self) -> str:
        """For GitHub."""
        rows = [[_markdown_cell(cell) for cell in row] for row in self.rows]
        widths = self._widths(rows)
        marks = [
            "-" * width if column in self.text else "-" * (width - 1) + ":"
            for column, width in enumerate(widths)
        ]
        lines = [self._padded(self.heads, widths), marks]
        lines += [self._padded(row, widths) for row in rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"**{escape_markdown(self.title)}**\n\n{table}" if self.title else table

    def latex(self, *, long: bool = False) -> str:
        """For the packages booktabs and, if `long`, longtable.

        Args:
          long: whether the table may break over pages.
        """
        columns = "".join("l" if i in self.text else "r" for i in range(len(self.heads)))
        line = " & ".join(map(escape_latex, self.heads)) + r" \\"
        body = [" & ".join(map(escape_latex, row)) + r" \\" for row in self.rows]
        title = escape_latex(self.title)
        if long:
            head = [rf"\caption{{{title}}} \\" if title else "", r"\toprule", line, r"\midrule"]
            body = [*filter(None, head), r"\endhead", *body, r"\bottomrule"]
            return "\n".join(
                [
                    r"{\scriptsize\setlength{\tabcolsep}{3pt}",
                    rf"\begin{{longtable}}{{{columns}}}",
                    *body,
                    r"\end{longtable}}",
                ]
            )
        return "\n".join(
            [
                r"\begin{table}[htbp]",
                r"\centering\small",
                rf"\caption{{{title}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                line,
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )

    def html(self) -> str:
        """A table element."""

        def line(cells: Sequence[str], tag: str) -> str:
            kinds = ['class="text"' if i in self.text else "" for i in range(len(cells))]
            return "".join(
                f"<{tag}{' ' + kind if kind else ''}>{html.escape(cell)}</{tag}>"
                for cell, kind in zip(cells, kinds, strict=True)
            )

        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in self.rows)
        return (
            f'<div class="wide"><table>{caption}<thead><tr>{line(self.heads, "th")}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>"
        )

    def _widths(self, rows: Sequence[Sequence[str]]) -> list[int]:
        return [max(map(len, column)) for column in zip(self.heads, *rows, strict=True)]

    def _padded(self, cells: Sequence[str], widths: Sequence[int]) -> list[str]:
        return [
            cell.ljust(width) if column in self.text else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]


def number(value: float | None, digits: int) -> str:
    """The value with `digits` decimals; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def with_interval(value: float | None, interval: tuple[float, float] | None, digits: int) -> str:
    """E.g. "2.81 [2.70, 2.92]"."""
    if value is None or interval is None:
        return number(value, digits)
    return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(letter, letter) for letter in _one_line(text))


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    for letter in "\\`*_[]<>|#":
        text = text.replace(letter, "\\" + letter)
    return _one_line(text)


def _markdown_cell(text: str) -> str:
    """Escapes what would end the cell or become HTML; other Markdown is harmless in a cell."""
    return _one_line(text).replace("|", "\\|").replace("<", "&lt;")


def _one_line(text: str) -> str:
    return " ".join(text.split())
