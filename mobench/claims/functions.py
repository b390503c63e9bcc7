"""What a claim's expression may ask for, and how an expression is checked and evaluated.

| function | figure |
|---|---|
| `macs(net)`, `params(net)` | counted from the layers; of a network that the zoo does not have, as printed |
| `share(net, role, macs or params)` | what a role (pointwise, depthwise, conv, se, dense) has of them, from 0 to 1 |
| `peak(net)` | most activations live at once, in numbers |
| `printed(id)` | a figure of `printed.tsv`, in its unit (`M`: 1e6, `B`: 1e9), as printed |
| `near(a, b, share)` | true where a is within that share of b |
| `ratio(a, b, where)` | latency of cell a over that of b; where: cpu, gpu or gpu_other |
| `order(where, a, b, ...)` | true where each is faster than the next |
| `rank(x, y)` | Spearman correlation over the networks of a place; x, y: macs, params, cpu, gpu, gpu_other |
| `rank_of(net, x, y)` | the same over that network's widths, depths and sizes alone |
| `inverted(x, y)` | how many pairs of networks change places between two devices |
| `top1(cell)` | measured accuracy in percent |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mobench.claims.language import Arithmetic, Call, Chain, GrammarError, Logic, Name, Node, Number, calls
from mobench.claims.networks import counted, in_zoo, is_known
from mobench.claims.places import WHERE, Key, Place, printed_figures
from mobench.claims.ranks import AXES, inverted, rank, rank_of
from mobench.claims.values import MissingError, Need, Truth, Value, both, combine, compare, either, exact, opposite
from mobench.records import PRECISIONS
from mobench.zoo.layers import COUNTED_ROLES, operators, peak, shares
from mobench.zoo.spec import get

UNITS = {"M": 1e6, "B": 1e9, "KB": 1e3}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Function:
    """What its arguments are, the last kind repeated where ``many``, whether it is a truth, and needs a place."""

    takes: tuple[str, ...]
    gives: str = "figure"
    placed: bool = False
    many: bool = False


FUNCTIONS: Mapping[str, _Function] = {
    "macs": _Function(takes=("network",)),
    "params": _Function(takes=("network",)),
    "share": _Function(takes=("network", "role", "count")),
    "peak": _Function(takes=("network",)),
    "printed": _Function(takes=("printed",)),
    "near": _Function(takes=("figure", "figure", "figure"), gives="truth"),
    "ratio": _Function(takes=("cell", "cell", "where"), placed=True),
    "order": _Function(takes=("where", "cell", "cell"), gives="truth", placed=True, many=True),
    "rank": _Function(takes=("axis", "axis"), placed=True),
    "rank_of": _Function(takes=("network", "axis", "axis"), placed=True),
    "inverted": _Function(takes=("where", "where"), placed=True),
    "top1": _Function(takes=("cell",), placed=True),
}
_WORDS: Mapping[str, Sequence[str]] = {
    "role": tuple(COUNTED_ROLES),
    "count": ("macs", "params"),
    "where": WHERE,
    "axis": AXES,
}


def check(node: Node) -> None:
    """Raise GrammarError unless a tree is a truth made of known functions, networks, printed figures and words."""
    if _kind(node) != "truth":
        raise GrammarError("a comparison is expected, this is a figure", 1)


def is_placed(node: Node) -> bool:
    """Whether an expression needs latencies or accuracies, and so a place."""
    return any(FUNCTIONS[call.function].placed for call in calls(node))


def is_counted(node: Node) -> bool:
    """Whether an expression counts anything of our own layer tables."""
    return any(call.function in ("macs", "params", "share", "peak") for call in calls(node))


def cells(node: Node) -> tuple[Need, ...]:
    """Return the latencies and accuracies that an expression asks for by name."""
    found = []
    for call in calls(node):
        texts = [argument.text for argument in call.arguments if isinstance(argument, Name)]
        if call.function in ("ratio", "order"):
            where = texts[-1] if call.function == "ratio" else texts[0]
            found += [_need(text, where) for text in (texts[:-1] if call.function == "ratio" else texts[1:])]
        elif call.function == "top1":
            found.append(_need(texts[0], "top1"))
    return tuple(dict.fromkeys(found))


def axes(node: Node) -> tuple[str, ...]:
    """Return the axes along which an expression ranks a place's networks."""
    names = [
        argument.text
        for call in calls(node)
        if call.function in ("rank", "rank_of", "inverted")
        for argument in call.arguments
        if isinstance(argument, Name) and argument.text in AXES
    ]
    return tuple(dict.fromkeys(names))


def truth(node: Node, place: Place | None) -> Truth:
    """Evaluate a checked expression with a place's evidence; None where it needs none."""
    if isinstance(node, Logic):
        parts = [truth(part, place) for part in node.parts]
        if node.op == "not":
            return opposite(parts[0])
        return both(parts) if node.op == "and" else either(parts)
    try:
        if isinstance(node, Chain):
            return _chain(node, place)
        assert isinstance(node, Call)
        if node.function == "near":
            a, b, slack = (_figure(argument, place) for argument in node.arguments)
            gap = combine("/", combine("-", a, b), b)
            low = compare(Value(figure=-slack.figure, low=-slack.high, high=-slack.low), "<=", gap)
            found = both([low, compare(gap, "<=", slack)])
            seen = f"{_text(node.arguments[0])} = {a}, {100 * gap.figure:+.2g} % of {exact(b.figure)}"
            return replace(found, seen=(seen,))
        where, *names = (argument.text for argument in node.arguments if isinstance(argument, Name))
        assert place is not None
        steps = [(a, b, place.ratio(_key(a, where), _key(b, where))) for a, b in pairwise(names)]
        found = both([compare(step, "<", exact(1.0)) for *_, step in steps])
        return replace(found, seen=tuple(f"{a} over {b} on {where} = {step}" for a, b, step in steps))
    except MissingError as missing:
        return Truth(holds="missing", needs=missing.needs, why=f"missing: {missing.why}")
    except ZeroDivisionError:
        return Truth(holds="open", more=None, why="a divisor's interval holds zero")


def _chain(node: Chain, place: Place | None) -> Truth:
    values = [(node.first, _figure(node.first, place))]
    ops = []
    for op, part in node.links:
        ops.append(op)
        values.append((part, _figure(part, place)))
    links = [compare(a, op, b) for op, ((_, a), (_, b)) in zip(ops, pairwise(values), strict=True)]
    words = [_seen(*values[0])]
    for op, (part, value) in zip(ops, values[1:], strict=True):
        words += [op, _seen(part, value)]
    return replace(both(links), seen=(" ".join(words),))


def _seen(node: Node, value: Value) -> str:
    return f"{_text(node)} = {value}" if calls(node) else _text(node)


def _text(node: Node) -> str:
    return node.text if isinstance(node, (Number, Name, Call, Arithmetic)) else ""


def _figure(node: Node, place: Place | None) -> Value:
    if isinstance(node, Number):
        return exact(node.value)
    if isinstance(node, Arithmetic):
        return combine(node.op, _figure(node.left, place), _figure(node.right, place))
    assert isinstance(node, Call)
    words = [argument.text for argument in node.arguments if isinstance(argument, Name)]
    if FUNCTIONS[node.function].placed:
        assert place is not None
        return _PLACED[node.function](place, *words)
    return _PLAIN[node.function](*words)


def _share(network: str, role: str, what: str) -> Value:
    parts = shares(operators(get(network)))
    total = sum(getattr(part, what) for part in parts)
    return exact(sum(getattr(part, what) for part in parts if part.role == role) / total)


def _printed(figure_id: str) -> Value:
    figure = printed_figures()[figure_id]
    return exact(figure.value * UNITS.get(figure.unit, 1.0))


def _ratio(place: Place, one: str, other: str, where: str) -> Value:
    return place.ratio(_key(one, where), _key(other, where))


def _top1(place: Place, cell: str) -> Value:
    network, precision, _ = _key(cell, "cpu")
    return place.top1(network, precision)


_PLAIN: Mapping[str, Callable[..., Value]] = {
    "macs": lambda network: counted(network, "macs"),
    "params": lambda network: counted(network, "params"),
    "share": _share,
    "peak": lambda network: exact(float(peak(operators(get(network))).elements)),
    "printed": _printed,
}
_PLACED: Mapping[str, Callable[..., Value]] = {
    "ratio": _ratio,
    "rank": rank,
    "rank_of": rank_of,
    "inverted": inverted,
    "top1": _top1,
}


def _key(cell: str, where: str) -> Key:
    network, _, precision = cell.partition(":")
    return network, precision or "fp32", where


def _need(cell: str, where: str) -> Need:
    network, precision, _ = _key(cell, where)
    return Need(network=network, precision=precision, where=where)


def _kind(node: Node) -> str:
    """Return whether a tree is a truth or a figure, all of it checked."""
    if isinstance(node, Number):
        return "figure"
    if isinstance(node, Name):
        raise GrammarError(f"{node.text!r} is no figure: put it in a function, such as macs({node.text})", node.column)
    if isinstance(node, Call):
        return _call(node)
    parts: tuple[Node, ...]
    if isinstance(node, Arithmetic):
        parts = (node.left, node.right)
    elif isinstance(node, Chain):
        parts = (node.first, *(part for _, part in node.links))
    else:
        parts = node.parts
    wanted = "truth" if isinstance(node, Logic) else "figure"
    for part in parts:
        if _kind(part) != wanted:
            raise GrammarError(f"a {wanted} is expected in {_text(part) or 'brackets'!r}", getattr(part, "column", 1))
    return "figure" if isinstance(node, Arithmetic) else "truth"


def _call(call: Call) -> str:
    function = FUNCTIONS.get(call.function)
    if function is None:
        raise GrammarError(f"no function is named {call.function!r}: there are {', '.join(FUNCTIONS)}", call.column)
    extra = max(0, len(call.arguments) - len(function.takes)) if function.many else 0
    kinds = (*function.takes, *([function.takes[-1]] * extra))
    if len(call.arguments) != len(kinds):
        raise GrammarError(f"{call.function} takes {', '.join(function.takes)}", call.column)
    for kind, argument in zip(kinds, call.arguments, strict=True):
        _argument(call, kind, argument)
    return function.gives


def _argument(call: Call, kind: str, argument: Node) -> None:
    if kind == "figure":
        if _kind(argument) != "figure":
            raise GrammarError(f"{call.function} takes figures", call.column)
        return
    if not isinstance(argument, Name):
        raise GrammarError(f"{call.function} takes a name here ({kind}), not a figure", call.column)
    word = argument.text
    if kind in _WORDS and word not in _WORDS[kind]:
        raise GrammarError(f"{word!r} is not one of {', '.join(_WORDS[kind])}", argument.column)
    if kind == "printed" and word not in printed_figures():
        raise GrammarError(f"no printed figure has the id {word!r}", argument.column)
    if kind in ("network", "cell"):
        network, colon, precision = word.partition(":")
        if not is_known(network):
            raise GrammarError(f"no network is named {network!r}", argument.column)
        if colon and (kind == "network" or precision not in PRECISIONS):
            raise GrammarError(f"{word!r} has no precision of {', '.join(PRECISIONS)}", argument.column)
        if call.function in ("share", "peak", "rank_of") and not in_zoo(network):
            raise GrammarError(f"the layers of {network!r} are not in the zoo", argument.column)
