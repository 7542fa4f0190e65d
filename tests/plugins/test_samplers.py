import itertools
from collections import Counter

import numpy as np
import pytest

from seqjax import Error
from seqjax.samplers import Random, Sequential, Uniform, Windows

ONE = [[0, 34], [0, 100], [0, 41], [0, 40]]
"""Streams of one document. The last one is as short as the samplers here allow."""
MANY = [
    [0, 50, 90],
    [0, 0, 13, 13, 14, 40, 71, 71],
    [0, *range(1, 60)],
    [0, 5, 10, 15, 20, 25, 30, 35, 40, 45],
    [0, 3, 90],
]
"""Streams of several documents: some are empty, some have length 1, some end at the end of a window."""


def plans(sampler, bounds, count=60):
    return [sampler.plan(np.array(bounds, np.int64), np.random.default_rng((seed, 0))) for seed in range(count)]


def scored_positions(plan):
    """Every scored position, with repetitions."""
    return [
        start + t
        for start, (first, last) in zip(plan.starts.ravel(), plan.scored.reshape(-1, 2), strict=True)
        for t in range(first, last)
    ]


def by_hand(bounds, num_steps):
    """The windows (start, count, reset) of all documents in order, position by position."""
    windows = []
    for position in range(bounds[-1]):
        begins = position in bounds
        if begins or windows[-1][1] == num_steps:
            windows.append([position, 0, begins])
        windows[-1][1] += 1
    return [tuple(window) for window in windows]


def check_shapes(plan, batch_size):
    batches = len(plan.starts)
    assert plan.starts.shape == plan.reset.shape == (batches, batch_size)
    assert plan.scored.shape == (batches, batch_size, 2)
    assert (plan.starts.dtype, plan.scored.dtype, plan.reset.dtype) == (np.int64, np.int32, np.bool_)


@pytest.mark.parametrize("bounds", MANY)
@pytest.mark.parametrize(("batch_size", "num_steps"), [(2, 5), (1, 7), (4, 3), (3, 1)])
def test_sequential_deals_the_windows_of_documents_in_order_to_rows_of_one_length(bounds, batch_size, num_steps):
    windows, left_out = by_hand(bounds, num_steps), set()
    for plan in plans(Sequential(batch_size=batch_size, num_steps=num_steps), bounds):
        check_shapes(plan, batch_size)
        assert len(plan.starts) == len(windows) // batch_size, "another number of batches would compile again"
        rows = [list(zip(plan.starts[:, i], plan.scored[:, i, 1], plan.reset[:, i], strict=True))
                for i in range(batch_size)]  # fmt: skip
        skip = [start for start, _, _ in windows].index(rows[0][0][0])
        expected = windows[skip : skip + len(plan.starts) * batch_size]
        expected = [(*window[:2], window[2] or n % len(plan.starts) == 0) for n, window in enumerate(expected)]
        assert [window for row in rows for window in row] == expected
        assert (plan.scored[..., 0] == 0).all()
        left_out |= {skip}
    assert left_out == set(range(len(windows) % batch_size + 1)), "nothing is left out always"


@pytest.mark.parametrize("bounds", [*ONE, [0, 0, 41, 41]])
@pytest.mark.parametrize(("batch_size", "num_steps"), [(2, 5), (1, 7), (4, 3), (3, 1)])
def test_sequential_rows_continue_through_one_document(bounds, batch_size, num_steps):
    offsets, n = set(), bounds[-1]
    for plan in plans(Sequential(batch_size=batch_size, num_steps=num_steps), bounds):
        check_shapes(plan, batch_size)
        offset = plan.starts[0, 0].item()
        length = (n - offset) // batch_size
        assert plan.starts[0].tolist() == [offset + i * length for i in range(batch_size)]
        assert len(plan.starts) == length // num_steps
        assert (np.diff(plan.starts, axis=0) == num_steps).all()
        assert plan.reset[0].all()
        assert not plan.reset[1:].any()
        assert (plan.scored == [0, num_steps]).all()
        offsets |= {offset}
    assert offsets == set(range(min(num_steps, n - batch_size * num_steps) + 1))


@pytest.mark.parametrize("bounds", [*ONE, [0, 0, 41, 41]])
@pytest.mark.parametrize(("batch_size", "num_steps"), [(2, 5), (1, 7), (4, 3), (3, 1)])
def test_random_draws_disjoint_reset_windows_from_one_offset(bounds, batch_size, num_steps):
    offsets = set()
    for plan in plans(Random(batch_size=batch_size, num_steps=num_steps), bounds):
        check_shapes(plan, batch_size)
        assert plan.reset.all()
        assert (plan.scored == [0, num_steps]).all()
        starts = set(plan.starts.ravel().tolist())
        assert len(starts) == plan.starts.size
        # of the windows from the offset that all share, the plan leaves out less than a batch
        (offset,) = {start % num_steps for start in starts}
        possible = set(range(offset, bounds[-1] - num_steps + 1, num_steps))
        assert starts <= possible
        assert len(possible) - len(starts) < batch_size
        offsets |= {offset}
    assert offsets == set(range(num_steps))


@pytest.mark.parametrize("bounds", [MANY[0], MANY[1], MANY[4]])
@pytest.mark.parametrize(("batch_size", "num_steps"), [(2, 5), (1, 7), (4, 3), (3, 1)])
def test_random_has_equally_many_windows_of_several_documents_in_each_epoch(bounds, batch_size, num_steps):
    counts = np.diff(bounds) // num_steps
    trained, document = set(), np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    for plan in plans(Random(batch_size=batch_size, num_steps=num_steps), bounds, 200):
        check_shapes(plan, batch_size)
        assert plan.reset.all()
        assert (plan.scored == [0, num_steps]).all()
        assert len(plan.starts) == counts.sum() // batch_size, "another number of batches would compile again"
        starts = plan.starts.ravel()
        found = np.bincount(document[starts], minlength=len(counts))
        assert (found <= counts).all()
        assert (document[starts + num_steps - 1] == document[starts]).all(), "no window crosses a document"
        assert len(set(scored_positions(plan))) == plan.scored[..., 1].sum(), "no target is scored twice"
        for d in range(len(counts)):
            assert len({(start - bounds[d]) % num_steps for start in starts[document[starts] == d]}) <= 1
        trained |= set(scored_positions(plan))
    assert trained == {t for t in range(bounds[-1]) if counts[document[t]]}, "every target has its turn"


def test_random_shuffles_and_leaves_out_other_windows_in_each_epoch():
    found = plans(Random(batch_size=4, num_steps=1), [0, 10])
    assert {position for plan in found for position in plan.starts.ravel().tolist()} == set(range(10))
    assert len({tuple(plan.starts.ravel()) for plan in found}) == len(found)
    first = [plan.starts.ravel().tolist().index(0) for plan in found if 0 in plan.starts]
    assert len(set(first)) == 8, "the start of the text comes up at every place"


def test_random_takes_only_offsets_that_leave_a_batch():
    """14 targets have two windows of 5 at the offsets 0 to 4; 11 targets have two at 0 and 1 only."""
    assert {plan.starts.min() for plan in plans(Random(batch_size=2, num_steps=5), [0, 14])} == set(range(5))
    assert {plan.starts.min() for plan in plans(Random(batch_size=2, num_steps=5), [0, 11])} == {0, 1}
    assert {plan.starts.min() for plan in plans(Sequential(batch_size=2, num_steps=5), [0, 11])} == {0, 1}


TOO_LITTLE = {
    Sequential: {(0, 19): "20 targets, found 19", (0, 0): "found 0", (0,): "found 0"},
    Random: {(0, 19): "batch_size = 4 .* found 3", (0, 9, 18, 27): "found 3", (0,): "found 0"},
    Uniform: {(0, 15): "20 windows .*, found 19", (0, 6, 11): "found 19", (0, 0): "found 0", (0,): "found 0"},
}
"""Bounds with too little data for a batch of 4 windows of 5 steps -> the message."""


@pytest.mark.parametrize(
    ("cls", "enough"), [(Sequential, [0, 20]), (Random, [0, 20]), (Uniform, [0, 0, 16]), (Uniform, [0, 6, 6, 12])]
)
def test_too_little_text_is_an_error_with_both_numbers(cls, enough):
    (plan,) = plans(cls(batch_size=4, num_steps=5), enough, 1)
    assert plan.starts.shape == (1, 4)
    for bounds, message in TOO_LITTLE[cls].items():
        with pytest.raises(Error, match=rf"{message}\n.*--sampler\.batch-size") as caught:
            plans(cls(batch_size=4, num_steps=5), bounds, 1)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("sampler", [Sequential(2, 5), Random(2, 5), Uniform(2, 5)])
def test_a_plan_is_a_function_of_seed_and_epoch(sampler):
    def starts(seed, epoch):
        return sampler.plan(np.array([0, 200]), np.random.default_rng((seed, epoch))).starts.tolist()

    assert starts(3, 4) == starts(3, 4)
    assert len({str(starts(3, epoch)) for epoch in range(20)}) > 4
    assert len({str(starts(seed, 0)) for seed in range(20)}) > 4
    assert [starts(0, epoch) for epoch in range(8)] != [starts(1, epoch) for epoch in range(8)]


@pytest.mark.parametrize("cls", [Sequential, Random, Uniform, Windows])
def test_sizes_are_positive(cls):
    with pytest.raises(Error) as caught:
        cls(batch_size=0, num_steps=-1)
    assert len(caught.value.problems) == 2


def all_windows(bounds, num_steps):
    """The part (start, count) inside its document of every window that overlaps one."""
    for a, b in itertools.pairwise(bounds):
        for first in range(a - num_steps + 1, b):
            inside = [t for t in range(first, first + num_steps) if a <= t < b]
            if inside:
                yield inside[0], len(inside)


def drawn(plan):
    return list(zip(plan.starts.ravel().tolist(), plan.scored[..., 1].ravel().tolist(), strict=True))


@pytest.mark.parametrize("bounds", [*ONE, *MANY])
@pytest.mark.parametrize(("batch_size", "num_steps"), [(2, 5), (1, 7), (4, 3), (3, 1)])
def test_uniform_draws_from_all_windows_that_overlap_a_document_no_target_twice(bounds, batch_size, num_steps):
    possible = Counter(all_windows(bounds, num_steps))
    for plan in plans(Uniform(batch_size=batch_size, num_steps=num_steps), bounds, 20):
        check_shapes(plan, batch_size)
        assert len(plan.starts) == possible.total() // (batch_size * num_steps)
        assert plan.reset.all()
        assert not plan.scored[..., 0].any()
        assert set(drawn(plan)) <= set(possible)
        positions = scored_positions(plan)
        assert len(positions) == len(set(positions))


@pytest.mark.parametrize("bounds", [[0, 34], MANY[1]])
def test_uniform_draws_every_window_and_trains_every_target_equally_often(bounds):
    """Counts over 1,000 epochs, within 5 standard deviations of independent draws; T windows contain each target."""
    B, T, epochs = 2, 5, 1_000
    possible = Counter(all_windows(bounds, T))
    of_target = Counter(start + t for start, count in possible.elements() for t in range(count))
    assert of_target == dict.fromkeys(range(bounds[-1]), T)

    found, trained, N = Counter(), Counter(), possible.total() // (B * T)
    for plan in plans(Uniform(batch_size=B, num_steps=T), bounds, epochs):
        found.update(drawn(plan))
        trained.update(scored_positions(plan))
    share = N * B / possible.total()
    for window, multiplicity in possible.items():  # as many windows of one start and count as documents are short
        mean = epochs * multiplicity * share
        assert abs(found[window] - mean) < 5 * mean**0.5
    mean = epochs * T * share
    assert all(abs(trained[target] - mean) < 5 * mean**0.5 for target in range(bounds[-1]))


def test_uniform_shuffles_its_windows():
    """The first four of 9 windows come in all 24 orders, about equally often."""
    found = [plan.starts.ravel()[:4] for plan in plans(Uniform(batch_size=3, num_steps=5), [0, 47], 600)]
    orders = Counter(tuple(np.argsort(four).tolist()) for four in found)
    assert len(orders) == 24
    assert max(orders.values()) < 25 + 5 * 25**0.5
