import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from seqjax import Error, Plan, Sampler
from seqjax.analysis import Coverage, coverage
from seqjax.report import Table
from seqjax.samplers import InOrder, Random, Sentences, Sequential, Uniform, Windows

CHAPTER = [0, 9_999]
"""10,000 tokens."""
DOCUMENTS = [0, 0, 13, 13, 14, 40, 71, 71]


def by_hand(sampler, bounds, epochs, seed, warmup=0):
    """Counted window by window, and target by target."""
    counts = np.zeros(bounds[-1], int)
    for epoch in range(epochs):
        plan = sampler.plan(np.array(bounds), np.random.default_rng((seed, epoch)))
        age = np.zeros(sampler.batch_size, int)  # steps since the row was reset
        for starts, scored, reset in zip(*plan, strict=True):
            age[reset] = 0
            for row, (start, (first, last)) in enumerate(zip(starts, scored, strict=True)):
                for t in range(first, last):
                    counts[start + t] += age[row] + t >= warmup
            age += sampler.num_steps
    return counts


SAMPLERS = [Random(2, 5), Sequential(2, 5), Uniform(3, 5), Sentences(1, 4), Windows(4, 5), InOrder(num_steps=6)]
CARRIED = SAMPLERS[1], SAMPLERS[-1]
"""Samplers whose windows go on where those before have ended, so that a warm-up may reach into the next one."""


@pytest.mark.parametrize(
    ("sampler", "bounds", "warmup"),
    [
        pytest.param(
            *(sampler, bounds, warmup),
            id=f"{type(sampler).__name__}-{name}",
            marks=[pytest.mark.slow] * (warmup > 0 and sampler not in CARRIED),
        )
        for sampler in SAMPLERS
        for name, bounds, warmup in (
            ("one document", [0, 47], 7),
            ("documents", DOCUMENTS, 0),
            ("warm-up", DOCUMENTS, 2),
        )
    ],
)
def test_counts_are_those_of_a_loop_over_the_windows(sampler, bounds, warmup):
    """Steps soon after a reset do not count in a warm-up."""
    found = coverage(sampler, bounds, 3, 5, warmup=warmup)
    np.testing.assert_array_equal(found.counts, by_hand(sampler, bounds, 3, 5, warmup))
    assert found.counts.dtype == np.int64
    assert found.epochs == 3


def test_the_chapters_10_000_tokens():
    """Sequential never trains 235 of 9,999 targets, whatever the offset; Random trains all in the long run."""
    once, often = (coverage(Sequential(32, 35), CHAPTER, epochs=epochs) for epochs in (1, 300))
    assert (once.never, once.per_epoch, once.least, once.most) == (1_039, 8_960, 0, 1)
    assert once.mean == 8_960 / 9_999
    assert [counts.tolist() for counts in once.times] == [[0, 1], [1_039, 8_960]]
    assert coverage(Random(32, 35), CHAPTER, epochs=300).never == 0
    assert (often.batches, often.never) == (2400, 235)
    assert "9,999 targets, 300 epochs, 8 batches and 8,960 targets an epoch" in str(often)
    assert "an epoch trains a target 0.8961 times, 0 at least, 1 at most" in str(often)
    assert "never trained: 235 targets (2.35%)" in str(often)


def counted(*counts):
    return Coverage(np.array(counts), epochs=2, batches=6)


def test_least_mean_and_most_are_per_epoch():
    found = counted(0, 3, 3, 10)
    assert (found.never, found.least, found.mean, found.most, found.per_epoch) == (1, 0, 2, 5, 8)


def test_few_counts_each_have_a_row_of_the_table():
    found = counted(0, 3, 3, 10)
    assert found.rows == (("0", 1, 0.25), ("3", 2, 0.5), ("10", 1, 0.25))
    assert Table(found.columns, found.rows)["targets"] == [1, 2, 1]
    assert counted(*range(12)).rows == tuple((str(n), 1, 1 / 12) for n in range(12))


def test_many_counts_are_grouped_into_ranges_except_zero():
    counts = np.arange(40).repeat(3)
    names, targets, shares = zip(*counted(*counts).rows, strict=True)
    assert names[:3] == ("0", "1 to 4", "5 to 8")
    assert names[-1] == "37 to 39"
    assert targets == (3, *[12] * 9, 9)
    assert sum(shares) == pytest.approx(1)
    without = counted(*(counts + 100)).rows
    assert without[0] == ("100 to 103", 12, 0.1)
    assert len(without) == 10


def test_the_figure_is_targets_by_times_trained():
    found = coverage(Uniform(batch_size=3, num_steps=5), DOCUMENTS, epochs=20)
    figure = found.plot()
    assert isinstance(figure, Figure)
    (line,) = figure.axes[0].lines
    for times, targets in zip(*line.get_data(), strict=True):
        assert targets == (found.counts == times).sum() > 0
    assert sum(line.get_ydata()) == 71
    assert figure.axes[0].get_xlabel() == "times trained"
    assert line.get_label() == f"in 20 epochs; {found.never} targets never"


@dataclasses.dataclass(frozen=True)
class Given(Sampler):
    """Returns a given plan."""

    batch_size: int = 1
    num_steps: int = 4
    start: int = 0
    scored: tuple[int, ...] = (0, 4)

    def plan(self, bounds, rng):
        return Plan(np.array([[self.start]]), np.array([[self.scored]]), np.array([[True]]))


def test_a_range_that_ends_before_it_begins_is_empty():
    assert coverage(Given(scored=(1, 3)), [0, 9]).counts.tolist() == [0, 1, 1, *[0] * 6]
    assert coverage(Given(scored=(3, 1)), [0, 9]).counts.tolist() == [0] * 9
    assert coverage(Given(scored=(3, 1)), [0, 9]).rows == (("0", 9, 1.0),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs = 0 must be a whole number, at least 1"),
        ({"seed": -1}, "seed = -1 must be a whole number, at least 0"),
        ({"warmup": 1.5}, "warmup = 1.5 must be"),
        ({"bounds": 9_999}, r"bounds = 9999 must be whole numbers that rise from 0 to the number of targets"),
        ({"bounds": [1, 9]}, "bounds = "),
        ({"bounds": []}, "bounds = "),
        ({"bounds": [0.0, 9.0]}, "bounds = "),
        ({"sampler": Given(start=7)}, "its plan scores steps past the end of the stream, 9"),
        ({"sampler": Random(), "bounds": [0, 9]}, "sampler random: batch_size = 32 needs"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(Error, match=message):
        coverage(**{"sampler": Given(), "bounds": [0, 9], **arguments})
