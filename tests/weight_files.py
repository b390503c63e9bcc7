"""Weights for tests: made-up tensors in a library's layout, written to a file, and what refusing them says."""

import pytest

from mobench.errors import BadInputError
from mobench.zoo import weights
from mobench.zoo.keys import tensors

torch = pytest.importorskip("torch", reason="needs mobench[export]")
save_file = pytest.importorskip("safetensors.torch", reason="needs mobench[export]").save_file


def state(spec, layout, seed=0):
    """Tensors for every key of a layout, variances positive."""
    generator = torch.Generator().manual_seed(seed)
    return {t.theirs: torch.rand(t.their_shape, generator=generator) + 0.1 for t in tensors(spec, layout)}


def write(path, held, metadata=None):
    save_file(held, path, metadata=metadata)
    return str(path)


def refusal(spec, source, **options):
    """Return the one line that resolving or building ends with."""
    with pytest.raises(BadInputError) as error:
        weights.resolve(spec, source, **options).build()
    assert "\n" not in str(error.value)
    return str(error.value)
