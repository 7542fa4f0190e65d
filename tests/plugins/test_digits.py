import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from seqjax import Error, Spec, Tokens, Values
from seqjax.datasets import Digits


def images_of(pairs):
    """The images and digits of a dataset, one for each document."""
    last = pairs.bounds[1:] - 1
    assert np.flatnonzero(pairs.mask).tolist() == last.tolist()
    return pairs.inputs.reshape(-1, 64), pairs.targets[last]


def counted(images, digits):
    """How often each image occurs with each digit."""
    rows = np.concatenate([images, digits[:, None]], 1)
    return sorted(map(tuple, rows.tolist()))


@pytest.mark.parametrize("seed", [0, 3])
def test_the_images_are_those_of_scikit_learn_in_a_random_order(seed):
    pairs = Digits(seed=seed).load()
    images, digits = load_digits(return_X_y=True)
    assert pairs.spec == Spec(Values(1), Tokens(10))
    found = images_of(pairs)
    assert counted(found[0] * 16, found[1]) == counted(images, digits)
    assert found[1][:20].tolist() != digits[:20].tolist()


def test_the_pixels_are_in_the_same_order_in_all_images():
    plain, permuted = images_of(Digits(seed=5).load())[0], images_of(Digits(permuted=True, seed=5).load())[0]
    columns = {tuple(column) for column in plain.T.tolist()}
    assert {tuple(column) for column in permuted.T.tolist()} == columns
    assert (plain != permuted).any(0).sum() > 50


def test_without_scikit_learn_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(Error, match=r"pip install 'seqjax\[digits\]'"):
        Digits().load()
