"""Arrays packed into one: which are, and that they come back."""

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.models.packing import Packing
from seqjax.testing.quick_jit import quick_jit

ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.array(7.0),
    np.arange(8.0).reshape(2, 4),
    np.ones((2, 4), bool),
    np.zeros((3, 4)),
]


@pytest.mark.parametrize(
    ("arrays", "packs", "shapes"),
    [
        (ARRAYS, True, [(2, 7), (), (2, 4), (3, 4)]),
        (ARRAYS, False, [a.shape for a in ARRAYS]),
        # One array alone is not copied.
        (ARRAYS[:1], True, [(2, 3)]),
        (ARRAYS[1:], True, [a.shape for a in ARRAYS[1:]]),
    ],
)
def test_arrays_like_the_first_one_are_packed_and_all_come_back(arrays, packs, shapes):
    packing = Packing.of(arrays, packs)

    @quick_jit
    def there_and_back(arrays):
        packed = packing.pack(arrays)
        return packed, packing.unpack(packed), packing.unpack([jnp.stack([a, a]) for a in packed])

    packed, back, over_time = there_and_back(arrays)
    assert [a.shape for a in packed] == shapes
    for found, twice, a in zip(back, over_time, arrays, strict=True):
        np.testing.assert_array_equal(found, a)
        np.testing.assert_array_equal(twice, [a, a])
