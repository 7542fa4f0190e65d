"""Windows cut from documents, and the check of every plan."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from seqjax import Error, Plan, Sampler
from seqjax.data.sampler import check_plan, cut_windows, draw_plan, in_order_by_rows
from seqjax.samplers import Random


@pytest.mark.parametrize("segments", [[(0, 7)], [(3, 3)], [(2, 5), (5, 11), (11, 11), (14, 15)], []])
@pytest.mark.parametrize("num_steps", [1, 3, 20])
def test_cut_windows(segments, num_steps):
    expected = [
        (start, min(num_steps, last - start), i)
        for i, (first, last) in enumerate(segments)
        for start in range(first, last, num_steps)
    ]
    first, last = np.array(segments, np.int64).reshape(-1, 2).T
    assert list(zip(*(a.tolist() for a in cut_windows(first, last, num_steps)), strict=True)) == expected


@pytest.mark.parametrize("num_rows", [1, 2, 3, 50])
@pytest.mark.parametrize("lengths", [(5,), (0, 9, 4, 0, 1, 3, 30, 2), (1,) * 7, (40, 1, 1, 1), (0, 0)], ids=str)
def test_rows_read_whole_documents_at_the_same_time(lengths, num_rows):
    """Each target is read once; the windows of a document are in one row, one after the other, and start anew."""
    bounds = np.cumsum([0, *lengths])
    plan = in_order_by_rows(bounds, 4, num_rows)
    found = []
    for row in range(plan.starts.shape[1]):
        for start, (first, last), reset in zip(*(a[:, row].tolist() for a in plan), strict=True):
            steps = range(start + first, start + last)
            if steps and reset:
                found.append(steps)
            elif steps:
                assert found[-1].stop == steps.start
                found[-1] = range(found[-1].start, steps.stop)
    documents = [range(first, last) for first, last in itertools.pairwise(bounds) if last > first]
    assert sorted(found, key=lambda steps: steps.start) == documents
    assert plan.starts.shape[1] <= num_rows


@pytest.mark.parametrize(
    "lengths",
    [(400, *[2] * 200), (40,) * 33, tuple(4000 // n for n in range(1, 400)), (7,) * 64],
    ids=["one", "33", "zipf", "64"],
)
def test_rows_have_about_the_same_number_of_windows(lengths):
    plan = in_order_by_rows(np.cumsum([0, *lengths]), 4, 32)
    assert plan.starts.size < 1.1 * sum(-(-n // 4) for n in lengths)
    if lengths == (7,) * 64:
        assert plan.starts.shape == (4, 32)


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan._replace(starts=plan.starts + 1),
        lambda plan: plan._replace(starts=plan.starts - 1),
        lambda plan: plan._replace(starts=plan.starts.astype(float)),
        lambda plan: plan._replace(scored=plan.scored + 1),
        lambda plan: plan._replace(reset=plan.reset[:1]),
        lambda plan: plan._replace(reset=plan.reset.astype(int)),
        lambda plan: Plan(plan.starts[:, :1], plan.scored[:, :1], plan.reset[:, :1]),
        lambda plan: Plan(plan.starts[:0], plan.scored[:0], plan.reset[:0]),
        lambda plan: tuple(plan),
        lambda plan: Plan(0, 0, False),
    ],
)
def test_a_plan_outside_the_stream_or_the_sampler_is_refused(change):
    sampler = Random(batch_size=2, num_steps=5)
    plan = Plan(np.array([[0, 5], [5, 0]]), np.full((2, 2, 2), [0, 5], np.int32), np.ones((2, 2), bool))
    bounds = np.array([0, 10])
    assert check_plan(plan, sampler, bounds).starts.tolist() == [[0, 5], [5, 0]]
    with pytest.raises(Error, match="sampler random"):
        check_plan(change(plan), sampler, bounds)


@dataclass(frozen=True)
class Everywhere(Sampler):
    """Reads the stream from its start, as if it were one document."""

    batch_size: int = 1
    num_steps: int = 5

    def plan(self, bounds, rng):
        starts = np.arange(0, bounds[-1] - self.num_steps + 1, self.num_steps)[:, None]
        scored = np.broadcast_to(np.array([0, self.num_steps], np.int32), (*starts.shape, 2))
        return Plan(starts, scored, starts == 0)


@pytest.mark.parametrize(
    ("bounds", "say"),
    [
        ([0, 7, 20], "1 of the 4 windows .* the steps 5 to 10"),
        ([0, 2, 10, 13, 14, 20], "2 of the 4 windows .* the steps 0 to 5"),
        ([0, 4, 4, 20], "1 of the 4 windows .* the steps 0 to 5"),
    ],
)
def test_a_sampler_that_crosses_documents_is_refused_with_an_example(bounds, say):
    with pytest.raises(Error, match=f"sampler Everywhere: {say}") as caught:
        draw_plan(Everywhere(), np.array(bounds), 0, 0)
    assert "cut_windows" in str(caught.value)


@pytest.mark.parametrize("bounds", [[0, 20], [0, 0, 5, 5, 20], [0, 10, 20, 20]])
def test_windows_that_end_where_documents_end_are_accepted(bounds):
    assert len(draw_plan(Everywhere(), np.array(bounds), 0, 0).starts) == 4


def test_only_the_steps_up_to_the_last_scored_one_must_lie_in_the_document():
    plan = Plan(np.array([[3], [5]]), np.array([[[0, 2]], [[1, 4]]], np.int32), np.ones((2, 1), bool))
    assert check_plan(plan, Everywhere(), np.array([0, 5, 9])).starts.tolist() == [[3], [5]]
    first = plan._replace(starts=np.array([[4], [5]]))
    with pytest.raises(Error, match="the steps 4 to 6"):
        check_plan(first, Everywhere(), np.array([0, 5, 9]))
