"""One table, columns and rows, rendered for the terminal or as Markdown, LaTeX, CSV or JSON: the same data in each."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mobench.errors import BadInputError

TableFormat = Literal["table", "md", "latex", "csv", "json"]
TABLE_FORMATS: tuple[TableFormat, ...] = ("table", "md", "latex", "csv", "json")
UNLIMITED = 10_000  # columns of a terminal that is none: a pipe or a file wraps nothing
LONGEST_WORD = 30  # characters; a longer one, such as a file's name, is broken when the terminal is narrow
NO_BREAK = "\u00a0"  # a space at which no line ends
LATEX_ROWS = 45  # of a page; a table with more breaks over pages
LATEX_LONG = 45  # characters from which a column has wrapped lines
LATEX_WIDTH = 0.6  # of the line: what such columns share


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: the rows' ``key``, and the ``title`` people read.

    A column with ``ci`` shows the interval under that key behind its value. ``digits`` fixes the decimals; without
    it three significant figures are given, and more where the interval needs them. Columns without a title are for
    machines: only CSV and JSON have them. ``display_only`` ones say the same in other words, for people.
    """

    key: str
    title: str = ""
    ci: str = ""
    digits: int | None = None
    align: Literal["left", "right"] = "left"
    display_only: bool = False


Row = Mapping[str, Any]


def render(
    columns: Sequence[Column],
    rows: Sequence[Row],
    fmt: TableFormat,
    *,
    notes: Sequence[str] = (),
    width: int | None = None,
    colour: bool = False,
) -> str:
    """Return the table as text that ends with a newline.

    ``notes`` stand under a table made for people; CSV and JSON carry data only. ``width`` is the terminal's, in
    characters; None wraps nothing. Raises BadInputError for an unknown format.
    """
    if fmt == "json":
        return json.dumps([_plain(columns, row) for row in rows], indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if fmt == "csv":
        return _csv(columns, rows)
    if fmt == "md":
        return _markdown(columns, rows, notes)
    if fmt == "latex":
        return _latex(columns, rows, notes)
    if fmt == "table":
        return _terminal(columns, rows, notes, width, colour)
    raise BadInputError(f"table format {fmt!r}", "is unknown", f"choose one of {', '.join(TABLE_FORMATS)}")


def interval(value: float | None, ci: Sequence[float] | None = None, digits: int | None = None) -> str:
    """Return a value with its interval in as many decimals as tell them apart; a dash where there is none.

    >>> interval(9.2134, (9.1311, 9.2978))
    '9.21 [9.13, 9.30]'
    >>> interval(152.71, (152.64, 152.77))
    '152.71 [152.64, 152.77]'
    >>> interval(72, digits=1)
    '72.0'
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if digits is None:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 2
        if ci and 0 < ci[1] - ci[0] < math.inf:  # at least the interval's first figure must show
            digits = max(digits, -math.floor(math.log10((ci[1] - ci[0]) / 2)))
    digits = min(digits, 9)
    text = f"{value:.{digits}f}"
    return f"{text} [{ci[0]:.{digits}f}, {ci[1]:.{digits}f}]" if ci else text


def _plain(columns: Sequence[Column], row: Row) -> dict[str, Any]:
    keys = [key for column in _data(columns) for key in (column.key, column.ci) if key]
    return {key: _json_value(row.get(key)) for key in keys}


def _data(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if not column.display_only]


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no infinity, and strict readers refuse NaN
    if isinstance(value, (tuple, list)):
        return [_json_value(item) for item in value]
    return value


def _text(column: Column, row: Row) -> str:
    value = row.get(column.key)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.ci or isinstance(value, float):
        return interval(value, row.get(column.ci), column.digits)
    if isinstance(value, (tuple, list)):
        return " ".join(str(item) for item in value)
    return "" if value is None else str(value)


def _csv(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A value keeps its full precision; an interval becomes two columns, ``_low`` and ``_high``."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for column in _data(columns) for name in _csv_names(column)])
    for row in rows:
        cells: list[Any] = []
        for column in _data(columns):
            value = row.get(column.key)
            cells.append(" ".join(map(str, value)) if isinstance(value, (tuple, list)) else value)
            if column.ci:
                cells.extend(row.get(column.ci) or ("", ""))
        writer.writerow(cells)
    return out.getvalue()


def _csv_names(column: Column) -> list[str]:
    return [column.key, f"{column.ci}_low", f"{column.ci}_high"] if column.ci else [column.key]


def _markdown(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str]) -> str:
    shown = [column for column in columns if column.title]
    lines = [
        _md_line([column.title for column in shown]),
        _md_line(["---:" if column.align == "right" else "---" for column in shown]),
        *(_md_line([_text(column, row) for column in shown]) for row in rows),
    ]
    if notes:
        lines += ["", *(f"- {_md_escape(note)}" for note in notes)]
    return "\n".join(lines) + "\n"


def _md_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_md_escape(cell) for cell in cells)} |"


def _md_escape(text: str) -> str:
    """A file's name may hold anything: keep it from ending its cell or its line."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


def _latex(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str]) -> str:
    """A tabular with booktabs' rules, or a longtable where one page is too short; notes stand under it."""
    shown = [column for column in columns if column.title]
    cells = [[_latex_escape(_text(column, row)) for column in shown] for row in rows]
    widest = [max((len(row[i]) for row in cells), default=0) for i in range(len(shown))]
    share = LATEX_WIDTH / max(1, sum(width > LATEX_LONG for width in widest))
    kinds = [
        "r" if column.align == "right" else rf"p{{{share:.2g}\linewidth}}" if width > LATEX_LONG else "l"
        for column, width in zip(shown, widest, strict=True)
    ]
    name = "longtable" if len(rows) > LATEX_ROWS else "tabular"
    lines = [
        f"% needs booktabs{' and longtable' if name == 'longtable' else ''}",
        rf"\begin{{{name}}}{{{''.join(kinds)}}}",
        r"\toprule",
        _latex_line([_latex_escape(column.title) for column in shown]),
        r"\midrule",
        *([r"\endhead"] if name == "longtable" else []),
    ]
    for row, texts in zip(rows, cells, strict=True):
        lines.append(_latex_line([rf"\textbf{{{t}}}" if t and row.get("style") == "bold" else t for t in texts]))
    lines += [r"\bottomrule", rf"\end{{{name}}}"]
    if notes:
        lines += ["", r"{\footnotesize\noindent", *(rf"{_latex_escape(note)}\par" for note in notes), "}"]
    return "\n".join(lines) + "\n"


def _latex_line(cells: Sequence[str]) -> str:
    # After the end of a line LaTeX takes a bracket or a star for its own.
    first = f"{{}}{cells[0]}" if cells and cells[0][:1] in ("[", "*") else "".join(cells[:1])
    return rf"{' & '.join([first, *cells[1:]])} \\"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "…": r"\ldots{}",
    "\u00d7": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    NO_BREAK: "~",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def _latex_escape(text: str) -> str:
    """A file's name may hold anything: nothing of it is a command, and no two hyphens become a dash."""
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return " ".join(escaped.split()).replace("--", "-{}-")


def _terminal(
    columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str], width: int | None, colour: bool
) -> str:
    # rich takes a tenth of a second to import, and only this format needs it
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [column for column in columns if column.title]
    # A figure torn over two lines cannot be read, so its spaces do not break; words may.
    cells = [
        [_text(c, row).replace(" ", NO_BREAK) if c.align == "right" else _text(c, row) for c in shown] for row in rows
    ]
    texts = [[column.title, *(row[i] for row in cells)] for i, column in enumerate(shown)]
    gap = 1 if width and sum(_widths(texts, width - 2 * len(shown))) > width - 2 * len(shown) else 2
    widths = _widths(texts, (width or UNLIMITED) - gap * len(shown))
    table = Table(box=SIMPLE_HEAD, show_edge=False, header_style="bold", padding=(0, gap - 1, 0, 0))
    for column, column_width in zip(shown, widths, strict=True):
        table.add_column(column.title, justify=column.align, width=column_width, overflow="fold")
    for row, texts_of_row in zip(rows, cells, strict=True):
        table.add_row(*map(Text, texts_of_row), style=row.get("style"))
    out = io.StringIO()
    console = Console(
        file=out,
        # Where not even the narrowest table fits, the terminal may wrap its lines: nothing is cut off.
        width=max(width or UNLIMITED, sum(widths) + gap * len(shown)),
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        legacy_windows=False,
    )
    console.print(table)
    for note in notes:
        console.print(Text(note), style="dim")
    return "\n".join(line.rstrip() for line in out.getvalue().replace(NO_BREAK, " ").splitlines()) + "\n"


def _widths(texts: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return a width a column: what its longest text needs, less where ``room`` is short, but no word is broken."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in texts]
    least = [
        min(width, max(min(cell_len(word), LONGEST_WORD) if NO_BREAK not in word else cell_len(word) for word in words))
        for width, column in zip(widths, texts, strict=True)
        if (words := [word for text in column for word in text.split(" ")])
    ]
    while sum(widths) > room:
        slack, index = max((width - low, i) for i, (width, low) in enumerate(zip(widths, least, strict=True)))
        if slack == 0:
            break
        widths[index] -= 1
    return widths
