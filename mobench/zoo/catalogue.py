"""What people ask of the list of networks: its order, variants, the sizes with printed figures, and print against ours.

A variant's name is its network's with a suffix: `mobilenet_v3_large_minimalistic`.
"""

from __future__ import annotations

import re

from mobench.errors import BadInputError
from mobench.zoo.count import Counts, count
from mobench.zoo.rows import Variant
from mobench.zoo.spec import ModelSpec, get, names
from mobench.zoo.tables import NETWORKS

PARAMS_SLACK = 100_000  # papers truncate as often as they round: 5.483 M is printed as 5.4 M
MACS_SLACK = 0.01  # of the printed figure: 300 M is printed for 300.77 M, 290 M for 290.7 M
_UNITS = {"M": 1e6, "B": 1e9, "G": 1e9}
_FIGURE = re.compile(r"(?P<whole>\d+)(\.(?P<decimals>\d+))? (?P<unit>[MBG])")


def base(name: str) -> str:
    """Return the network that `name` is a variant of, or itself.

    >>> base("mobilenet_v3_large_hswish16_spelled"), base("mobilenet_v3_small")
    ('mobilenet_v3_large', 'mobilenet_v3_small')
    """
    return min((other for other in names() if name == other or name.startswith(f"{other}_")), key=len)


def is_variant(label: str) -> bool:
    """Whether a label names an ablation at any size; a network of another width or size is none, nor a foreign name.

    >>> is_variant("mobilenet_v3_large_hswish16"), is_variant("mobilenet_v2_0.5_96"), is_variant("my_net")
    (True, False, False)
    """
    name = max((name for name in names() if label == name or label.startswith(f"{name}_")), key=len, default="")
    return bool(name) and base(name) != name


def ordered() -> tuple[str, ...]:
    """Return all names in the order of their papers, each network with its variants behind it."""
    bases = [name for name in names() if base(name) == name]
    return tuple(name for first in bases for name in (first, *variants(first)))


def variants(name: str) -> tuple[str, ...]:
    """Return the other names of the network that `name` is or is a variant of."""
    return tuple(other for other in names() if other != name and base(other) == base(name))


def families() -> tuple[str, ...]:
    """Return the families, in the order of their papers."""
    return tuple(dict.fromkeys(network.family for network in NETWORKS.values()))


def of_family(family: str | None = None) -> list[ModelSpec]:
    """Return every network at its paper's width, depth and size, or those of one family, in the list's order.

    Raises BadInputError for an unknown family.
    """
    if family is not None and family not in families():
        raise BadInputError(f"no family is named {family!r}", mend=f"choose one of {', '.join(families())}")
    return [spec for name in ordered() if (spec := get(name)).family == (family or spec.family)]


def printed_sizes(name: str) -> tuple[ModelSpec, ...]:
    """Return the network at every width, depth and size for which counts or an accuracy are printed.

    Its own comes first, then those of its own depth, the widest and largest first.
    """
    network = NETWORKS[name]
    own: Variant = (network.width, network.input_size, network.depth)
    rest = {*network.published, *network.printed} - {own}
    order = sorted(rest, key=lambda each: (each[2] != network.depth, *(-value for value in each)))
    return tuple(get(name, width=width, input_size=size, depth=depth) for width, size, depth in (own, *order))


def read(printed: str) -> tuple[float, float]:
    """Return a printed figure and what one of its last digit is worth.

    Raises ValueError for text that is none: a mistake in a table of ours.

    >>> read("5.4 M"), read("0.39 B")
    ((5400000.0, 100000.0), (390000000.0, 10000000.0))
    """
    match = _FIGURE.fullmatch(printed)
    if match is None:
        raise ValueError(f"printed figure {printed!r} is not a number with a unit, such as 5.4 M or 0.39 B")
    unit, decimals = _UNITS[match["unit"]], match["decimals"] or ""
    return int(match["whole"] + decimals) * unit / 10 ** len(decimals), unit / 10 ** len(decimals)


def params_agree(printed: str, params: int) -> bool:
    """Whether params are the printed ones, rounded or truncated: within the last digit or 0.1 M; nothing printed fits.

    >>> params_agree("5.4 M", 5_483_032), params_agree("3.4 M", 3_504_872)
    (True, False)
    """
    if not printed:
        return True
    value, digit = read(printed)
    return abs(params - value) <= max(digit, PARAMS_SLACK)


def macs_agree(printed: str, macs: int) -> bool:
    """Whether MACs are the printed ones, rounded or truncated: within the last digit or 1 %; nothing printed fits.

    >>> macs_agree("300 M", 300_774_272), macs_agree("66 M", 56_510_000)
    (True, False)
    """
    if not printed:
        return True
    value, digit = read(printed)
    return abs(macs - value) <= max(digit, MACS_SLACK * value)


def agrees(spec: ModelSpec, counts: Counts | None = None) -> bool | None:
    """Whether our counts are the printed ones; None where nothing is printed for this width, depth and size."""
    if spec.printed is None:
        return None
    counts = counts or count(spec)
    return params_agree(spec.printed.params, counts.params) and macs_agree(spec.printed.macs, counts.macs)
