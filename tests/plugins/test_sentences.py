import itertools

import numpy as np
import pytest

from seqjax import Error
from seqjax.data.sampler import draw_plan
from seqjax.samplers import Sentences

LENGTHS = [
    [5, 5, 5, 5],
    [1, 12, 0, 3, 5, 6, 30, 2, 2, 1, 0, 10, 4],
    [40, 1, 1, 1, 1, 1],
    [60, *[1] * 12],
    np.random.default_rng(0).integers(0, 25, 50).tolist(),
]


def plan(sampler, lengths, epoch=0):
    bounds = np.cumsum([0, *lengths], dtype=np.int64)
    return draw_plan(sampler, bounds, 0, epoch), bounds.tolist()


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("batch_size", "num_steps"), [(1, 5), (2, 5), (4, 3), (3, 100)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_document_is_read_once_from_start_to_end_in_one_row(lengths, batch_size, num_steps, shuffle):
    found, bounds = plan(Sentences(batch_size, num_steps, shuffle), lengths)
    read = []
    for row in range(batch_size):
        for start, (first, last), reset in zip(*(side[:, row] for side in found), strict=True):
            assert first == 0
            if last == 0:
                continue
            if reset:
                read.append([])
            assert last == num_steps or start + last in bounds, "a window ends early where its document ends only"
            read[-1] += range(start, start + last)
    assert sorted(read) == [list(range(a, b)) for a, b in itertools.pairwise(bounds) if a < b]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("batch_size", "num_steps"), [(1, 5), (2, 5), (4, 3)])
def test_the_number_of_batches_is_the_same_in_each_epoch_and_close_to_the_least(lengths, batch_size, num_steps):
    sampler = Sentences(batch_size, num_steps)
    (size,) = {len(plan(sampler, lengths, epoch)[0].starts) for epoch in range(20)}
    windows = [-(-n // num_steps) for n in lengths]
    least = max(max(windows), -(-sum(windows) // batch_size))
    assert least <= size <= 4 / 3 * least  # what is proved of dealing the longest first (Graham 1969)


def test_rows_are_equally_long_if_each_document_is_a_window():
    found, _ = plan(Sentences(4, 10), [3] * 4 * 7 + [9])
    assert (found.scored[:, :, 1] > 0).sum(0).tolist() in [[8, 7, 7, 7][-i:] + [8, 7, 7, 7][:-i] for i in range(4)]


def test_each_epoch_has_its_own_order():
    lengths = LENGTHS[1]
    starts = [plan(Sentences(2, 5), lengths, epoch)[0].starts.tolist() for epoch in (0, 1, 0)]
    assert starts[0] == starts[2] != starts[1]
    first = {plan(Sentences(2, 5), lengths, epoch)[0].starts[0, 0].item() for epoch in range(100)}
    assert len(first) >= 8, "long and short documents come first alike"
    still = [plan(Sentences(2, 5, shuffle=False), lengths, epoch)[0].starts.tolist() for epoch in (0, 1)]
    assert still[0] == still[1]


@pytest.mark.parametrize("lengths", [[9, 0, 9], [100], [], [0, 0]])
def test_fewer_documents_than_rows_are_an_error_with_both_numbers(lengths):
    with pytest.raises(Error, match=f"batch_size = 3 .* found {np.count_nonzero(lengths)}") as caught:
        plan(Sentences(batch_size=3, num_steps=5), lengths)
    assert "--dataset.documents lines" in str(caught.value)
