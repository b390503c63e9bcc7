"""The claims' small language: comparisons of figures, joined by and, or, not. Parsed by hand; nothing is executed.

    expression = conjunction {"or" conjunction}        conjunction = denial {"and" denial}
    denial     = "not" denial | comparison             comparison  = sum {("<" | "<=" | ">" | ">=") sum}
    sum        = product {("+" | "-") product}         product     = atom {("*" | "/") atom}
    atom       = number | name "(" [argument {"," argument}] ")" | "(" expression ")" | "-" atom
    argument   = name | number | sum

A name is a network's label with, behind a colon, a precision (`mobilenet_v2:int8`), a printed figure's id, or a word
that a function knows. A chain such as `0.95 <= ratio(a, b) <= 1.1` holds where all its links do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_DEPTH = 40  # brackets within brackets
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w.])|(?P<name>[A-Za-z_][\w.]*(?::[a-z][\w-]*)?)"
    r"|(?P<sign><=|>=|[-+*/<>(),]))"
)
_WORDS = {"and", "or", "not"}


class GrammarError(Exception):
    """A text is no expression: why, and the column (from 1) at which that shows."""

    def __init__(self, why: str, column: int) -> None:
        super().__init__(f"column {column}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number as written."""

    value: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A word that stands for itself: an argument of a function."""

    text: str
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function of arguments."""

    function: str
    arguments: tuple[Node, ...]
    column: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Two figures combined by + - * /."""

    op: str
    left: Node
    right: Node
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Comparisons in a row: ``first`` against the first link, that against the next."""

    first: Node
    links: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Logic:
    """Truths joined by `and` or `or`, or one denied by `not`."""

    op: str
    parts: tuple[Node, ...]


Node = Number | Name | Call | Arithmetic | Chain | Logic


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> Node:
    """Return an expression's tree.

    Raises:
        GrammarError: it is none.
    """
    parser = _Parser(text)
    tree = parser.logic("or", 0)
    if parser.kind != "end":
        raise GrammarError(f"{parser.word!r} is not expected here", parser.column)
    return tree


def calls(node: Node) -> tuple[Call, ...]:
    """Return all the calls in a tree, outermost first."""
    if isinstance(node, Call):
        return (node, *(call for argument in node.arguments for call in calls(argument)))
    if isinstance(node, Arithmetic):
        return (*calls(node.left), *calls(node.right))
    if isinstance(node, Chain):
        return (*calls(node.first), *(call for _, part in node.links for call in calls(part)))
    if isinstance(node, Logic):
        return tuple(call for part in node.parts for call in calls(part))
    return ()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at = text, _tokens(text), 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    @property
    def kind(self) -> str:
        return self.token.kind

    @property
    def word(self) -> str:
        return self.token.text or "the end"

    @property
    def column(self) -> int:
        return self.token.start + 1

    def take(self, *texts: str) -> str:
        """Return the next token and go on if it is one of these, else nothing."""
        if self.kind in ("sign", "word") and self.token.text in texts:
            self.at += 1
            return self.tokens[self.at - 1].text
        return ""

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise GrammarError(f"{text!r} is missing before {self.word!r}", self.column)

    def since(self, start: int) -> str:
        return self.text[start : self.tokens[self.at - 1].end]

    def logic(self, op: str, depth: int) -> Node:
        if depth > MOST_DEPTH:
            raise GrammarError("too many brackets within brackets", self.column)
        parts = [self._part(op, depth)]
        while self.take(op):
            parts.append(self._part(op, depth))
        return parts[0] if len(parts) == 1 else Logic(op=op, parts=tuple(parts))

    def _part(self, op: str, depth: int) -> Node:
        return self.logic("and", depth) if op == "or" else self.denial(depth)

    def denial(self, depth: int) -> Node:
        if self.take("not"):
            if depth > MOST_DEPTH:
                raise GrammarError("too many denials", self.column)
            return Logic(op="not", parts=(self.denial(depth + 1),))
        first = self.sum(depth)
        links = []
        while op := self.take("<", "<=", ">", ">="):
            links.append((op, self.sum(depth)))
        return Chain(first=first, links=tuple(links)) if links else first

    def sum(self, depth: int) -> Node:
        start = self.token.start
        node = self.product(depth)
        while op := self.take("+", "-"):
            node = Arithmetic(op=op, left=node, right=self.product(depth), text="")
        return _named(node, self.since(start))

    def product(self, depth: int) -> Node:
        node = self.atom(depth)
        while op := self.take("*", "/"):
            node = Arithmetic(op=op, left=node, right=self.atom(depth), text="")
        return node

    def atom(self, depth: int) -> Node:
        token = self.token
        if depth > MOST_DEPTH:
            raise GrammarError("too many brackets within brackets", self.column)
        if self.take("-"):
            return Arithmetic(op="-", left=Number(value=0, text="0"), right=self.atom(depth + 1), text="")
        if self.take("("):
            inner = self.logic("or", depth + 1)
            self.expect(")")
            return inner
        if token.kind == "number":
            self.at += 1
            return Number(value=float(token.text), text=token.text)
        if token.kind != "name":
            raise GrammarError(f"a figure is expected, not {self.word!r}", self.column)
        self.at += 1
        if not self.take("("):
            return Name(text=token.text, column=token.start + 1)
        arguments: list[Node] = []
        while not self.take(")"):
            if arguments:
                self.expect(",")
            arguments.append(self.sum(depth + 1))
        return Call(
            function=token.text,
            arguments=tuple(arguments),
            column=token.start + 1,
            text=self.since(token.start),
        )


def _named(node: Node, text: str) -> Node:
    """Give an arithmetic node the text it was read from."""
    if isinstance(node, Arithmetic):
        return Arithmetic(op=node.op, left=node.left, right=node.right, text=text)
    return node


def _tokens(text: str) -> Sequence[_Token]:
    found: list[_Token] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            column = at + len(text[at:]) - len(text[at:].lstrip()) + 1
            raise GrammarError(f"{text[column - 1]!r} begins nothing that is known", column)
        kind = str(match.lastgroup)
        word = match[kind]
        found.append(
            _Token(kind="word" if word in _WORDS else kind, text=word, start=match.start(kind), end=match.end())
        )
        at = match.end()
    return (*found, _Token(kind="end", text="", start=len(text), end=len(text)))
