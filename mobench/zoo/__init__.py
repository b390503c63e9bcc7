"""Networks built from their papers' tables: `names()` lists them, `get(name)` describes one. Light: no torch."""

from mobench.zoo.spec import Layer, ModelSpec, get, names

__all__ = ["Layer", "ModelSpec", "get", "names"]
