"""Inputs whose shape a model leaves open: settled by what is given, or refused; never quietly one pixel."""

import pytest

from mobench.errors import SessionError
from runners.shapes import settle


def test_a_fixed_shape_stays_whatever_is_given() -> None:
    assert settle("image", [1, 3, 224, 224], [1, 3, 96, 96]) == [1, 3, 224, 224]
    assert settle("scale", [], [1, 3, 96, 96]) == []


def test_an_open_batch_is_one() -> None:
    assert settle("image", [None, 3, 8, 8], []) == [1, 3, 8, 8]


def test_open_axes_need_a_shape_that_fits() -> None:
    assert settle("image", [None, None, None, 3], [1, 96, 96, 3]) == [1, 96, 96, 3]
    with pytest.raises(SessionError, match=r"\[\?, 3, \?, \?\] is open; give one, as --shape"):
        settle("image", [None, 3, None, None], [])
    for wrong in ([1, 1, 96, 96], [1, 3, 96]):
        with pytest.raises(SessionError, match="does not fit"):
            settle("image", [None, 3, None, None], wrong)


def test_a_batch_fills_an_open_axis_and_is_refused_where_it_is_fixed() -> None:
    assert settle("image", [None, 3, 8, 8], [], batch=4) == [4, 3, 8, 8]
    assert settle("image", [None, None, None, 3], [1, 96, 96, 3], batch=4) == [4, 96, 96, 3]
    assert settle("image", [8, 3, 8, 8], []) == [8, 3, 8, 8]
    with pytest.raises(SessionError, match="its batch is fixed at 1, 4 asked; export it with an open batch axis"):
        settle("image", [1, 3, 8, 8], [], batch=4)
