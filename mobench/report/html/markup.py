"""Pieces of HTML from plain text. Whatever comes from a journal passes through `e` or `json_script`, and only there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from mobench.report.html.evidence import EVIDENCE

FIGURES = 6  # significant digits of a number in the page's data: more than any interval needs


def e(text: object) -> str:
    """Return text as HTML shows it, also within an attribute's quotes."""
    return escape(str(text), quote=True)


def badge(kind: str) -> str:
    """Return the mark that says whose a figure is; ``kind`` is a key of EVIDENCE, and anything else gives nothing."""
    return f'<span class="badge {kind}" data-evidence="{kind}">{EVIDENCE[kind]}</span>' if kind in EVIDENCE else ""


def verdict(word: str) -> str:
    """Return a claim's verdict as a mark whose class is the word."""
    return f'<span class="verdict {e(word.replace(" ", "-"))}">{e(word)}</span>'


def items(rows: Iterable[str], *, kind: str = "ul") -> str:
    """Return a list of pieces of HTML; nothing where there are none."""
    inner = "".join(f"<li>{row}</li>" for row in rows)
    return f"<{kind}>{inner}</{kind}>" if inner else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, label: str, numeric: Sequence[int] = ()) -> str:
    """Return a table in a box that scrolls sideways. Heads are text, cells HTML; ``numeric`` columns align right."""

    def cell(tag: str, index: int, inner: str) -> str:
        style = ' class="n"' if index in numeric else ""
        return f"<{tag}{style}{' scope=col' if tag == 'th' else ''}>{inner}</{tag}>"

    facts = ' class="facts"' if len(heads) == 2 else ""  # narrow enough for a phone
    head = "".join(cell("th", index, e(text)) for index, text in enumerate(heads))
    body = "".join(f"<tr>{''.join(cell('td', i, inner) for i, inner in enumerate(row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{e(label)}"><table{facts}>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, body: str, *, attributes: str = "", opened: bool = False) -> str:
    """Return what unfolds: both are HTML."""
    return f"<details {attributes}{' open' if opened else ''}><summary>{summary}</summary>{body}</details>"


def some(texts: Sequence[str], most: int, what: str = "more") -> list[str]:
    """Return at most so many texts, escaped, and how many are left out."""
    left = len(texts) - most
    return [*map(e, texts[:most]), *([f"and {left} {e(what)}"] if left > 0 else [])]


def chooser(name: str, label: str, values: Iterable[str | tuple[str, str]]) -> str:
    """Return a labelled choice among values, or (value, text) pairs; its first is all of them."""
    pairs = [value if isinstance(value, tuple) else (value, value) for value in values]
    options = "".join(f'<option value="{e(value)}">{e(text)}</option>' for value, text in pairs)
    return f'<label>{e(label)} <select data-filter="{e(name)}"><option value="">all</option>{options}</select></label>'


def json_script(name: str, value: Any) -> str:
    """Return data for the page's script, in a form that cannot end the element or open another."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _plain(value: Any) -> Any:
    """Return what JSON takes: numbers in FIGURES digits, none that is infinite, tuples as lists."""
    if isinstance(value, float):
        return float(f"{value:.{FIGURES}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
