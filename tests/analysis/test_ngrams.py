"""Counts of n-grams, against counters of Python."""

import collections
import itertools

import numpy as np
import pytest

from seqjax import Error
from seqjax.analysis import count_ngrams


@pytest.mark.parametrize("size", [1, 5, 300, 50_000, 3_000_000, 2**31 - 1])
@pytest.mark.parametrize("order", [1, 2, 3, 7])
def test_count_ngrams(size, order):
    """In a table, sorted, and in parts; 50,000² and 3,000,000³ are just too large for int32 and int64."""
    rng = np.random.default_rng(0)
    for length in (0, 2, 200):
        ids = rng.integers(0, size, length).astype(np.int32)
        ids[length // 2 :] = ids[: length - length // 2]
        for bounds in (None, [0, 0, min(3, length), length], [0, *sorted(rng.integers(0, length + 1, 20)), length]):
            edges = [0, length] if bounds is None else bounds
            expected = collections.Counter()
            for first, last in itertools.pairwise(edges):
                document = ids[first:last].tolist()
                expected.update(zip(*(document[n:] for n in range(order)), strict=False))
            grams, counts = count_ngrams(ids, order, size, bounds)
            assert grams.shape == (len(expected), order)
            assert (grams.dtype, counts.dtype) == (np.int32, np.int64)
            found = list(zip(map(tuple, grams.tolist()), counts.tolist(), strict=True))
            assert found == sorted(expected.items())


def test_count_ngrams_in_several_blocks():
    ids = np.random.default_rng(0).integers(0, 28, 150_000).astype(np.uint8)
    bounds = [0, 65_535, 65_537, 131_072, 150_000]
    grams, counts = count_ngrams(ids, 2, 28, bounds)
    expected = np.zeros((28, 28), int)
    inside = ~np.isin(np.arange(1, 150_000), bounds)
    np.add.at(expected, (ids[:-1][inside], ids[1:][inside]), 1)
    np.testing.assert_array_equal(counts, expected[*grams.T])
    assert counts.sum() == 150_000 - 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], 0, 3), "order = 0"),
        (([0, 1], 1.5, 2), r"order = 1\.5 must be a whole number"),
        (([1, 3], 2, 3), "size - 1 = 2; these are from 1 to 3"),
        (([-1, 2], 2, 3), "these are from -1 to 2"),
        (([0.5], 1, 3), "integers"),
        (([0, 1], 1, 2**32), r"size = 4294967296 must be a whole number, from 1 to 2\^31"),
        *(
            (([0, 1], 1, 2, bounds), "bounds must rise from 0 to 2")
            for bounds in ([], [0.0, 2.0], [0, 3], [0, 2, 1, 2])
        ),
    ],
)
def test_count_ngrams_says_what_is_wrong(arguments, message):
    with pytest.raises(Error, match=message):
        count_ngrams(*arguments)
