"""Settles an input's shape where a model leaves axes open."""

from __future__ import annotations

from collections.abc import Sequence

from mobench.errors import SessionError


def settle(name: str, axes: Sequence[int | None], given: Sequence[int], batch: int = 1) -> list[int]:
    """Return the shape to run at. An open batch axis is ``batch``; a given shape counts only where more is open.

    Args:
        name: the input's name, for errors.
        axes: the model's own shape, None where an axis is open.
        given: the user's ``--shape``, or empty.
        batch: images an inference.

    Raises:
        SessionError: an axis other than the first is open and no shape, or none that fits, was given; or a batch other
            than 1 is asked of a model whose first axis is fixed at another.

    >>> settle("image", [None, 3, 224, 224], []), settle("image", [1, 3, None, None], [1, 3, 96, 96])
    ([1, 3, 224, 224], [1, 3, 96, 96])
    """
    first, *rest = axes if axes else [1]
    if axes and batch not in (1, first or batch):
        why = f"its batch is fixed at {first}, {batch} asked"
        raise SessionError(f"input {name!r}", why, "export it with an open batch axis")
    if None not in rest:
        return [batch if first is None else first, *(axis for axis in rest if axis is not None)] if axes else []
    shown = "[" + ", ".join("?" if axis is None else str(axis) for axis in axes) + "]"
    if not given:
        raise SessionError(f"input {name!r}", f"its shape {shown} is open", "give one, as --shape 1,3,224,224")
    if len(given) != len(axes) or any(axis not in (None, size) for axis, size in zip(axes, given, strict=False)):
        raise SessionError(f"input {name!r}", f"its shape {shown} does not fit --shape {','.join(map(str, given))}", "")
    return [batch, *given[1:]] if first is None and batch != 1 else list(given)
