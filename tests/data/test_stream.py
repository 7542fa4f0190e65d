"""The stream that a model reads, and what it must satisfy."""

import itertools

import numpy as np
import pytest

from seqjax import Error
from seqjax.data import Stream
from seqjax.data.stream import check_stream, next_stream


@pytest.mark.parametrize("lengths", [(5,), (1,), (0,), (2, 3), (0, 3, 1, 0, 4, 1), (1, 1), (0, 2, 0), (6, 0)])
def test_each_token_predicts_the_next_of_its_document(lengths):
    bounds = np.cumsum([0, *lengths])
    ids = np.random.default_rng(0).permutation(100)[: bounds[-1]].astype(np.int32)
    inputs, targets, edges = [], [], [0]
    for first, last in itertools.pairwise(bounds):
        document = ids[first:last].tolist()
        inputs += document[:-1]
        targets += document[1:]
        edges.append(len(inputs))
    stream = next_stream(ids, bounds)
    assert stream.inputs.tolist() == inputs
    assert stream.targets.tolist() == targets
    assert stream.bounds.tolist() == edges
    assert stream.mask is None


@pytest.mark.parametrize(
    "fields",
    [
        {"bounds": [0, 11]},
        {"bounds": [1, 10]},
        {"bounds": [0, 7, 3, 10]},
        {"bounds": []},
        {"targets": np.arange(9)},
        {"mask": np.ones(11, bool)},
    ],
)
def test_a_stream_whose_sides_do_not_fit_is_refused(fields):
    stream = Stream(np.arange(10), np.arange(10), [0, 4, 10])
    assert check_stream(stream).bounds.tolist() == [0, 4, 10]
    with pytest.raises(Error, match="stream's"):
        check_stream(stream._replace(**fields))
