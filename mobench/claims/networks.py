"""The networks that claims may name: the zoo's, and those of others with what is printed of them."""

from __future__ import annotations

from functools import cache

from mobench.claims.places import foreign_networks
from mobench.claims.values import MissingError, Value, exact
from mobench.errors import BadInputError
from mobench.zoo.count import count
from mobench.zoo.spec import get


def is_known(network: str) -> bool:
    """Whether a network is in the zoo, or one of those that evidence has."""
    return network in foreign_networks() or in_zoo(network)


@cache
def in_zoo(network: str) -> bool:
    """Whether mobench can build and export a network."""
    try:
        get(network)
    except BadInputError:
        return False
    return True


@cache
def counted(network: str, what: str) -> Value:
    """Return a network's params or MACs from its layers, or as printed where the zoo does not have it.

    Raises:
        MissingError: none were read.
    """
    foreign = foreign_networks().get(network)
    if foreign is None:
        return exact(float(getattr(count(get(network)), what)))
    figure: float | None = getattr(foreign, what)
    if figure is None:
        raise MissingError((), f"{what} of {network}, which the zoo does not have")
    return exact(figure)
