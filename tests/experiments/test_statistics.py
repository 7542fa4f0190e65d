"""The statistics of the referee, against brute force, other libraries and published examples."""

import itertools

import numpy as np
import pytest
import scipy.stats
from protocol.statistics import (
    Interval,
    holm,
    improvement,
    iqm,
    mean_interval,
    rank_intervals,
    ratio_interval,
    score_interval,
    sign_test,
    verdicts,
)


def test_the_interquartile_mean_leaves_out_a_quarter_on_each_side():
    values = np.random.default_rng(0).normal(size=(5, 12))
    np.testing.assert_allclose(iqm(values), scipy.stats.trim_mean(values, 0.25, axis=1))
    # A quarter of ten values is two and a half: the third and the eighth count half.
    assert iqm(np.array([90, 3, 1, 4, 5, 2, 6, 7, -80, 8.0])) == (0.5 * 2 + 3 + 4 + 5 + 6 + 0.5 * 7) / 5
    assert iqm(np.array([3.0])) == 3
    assert iqm(np.array([1.0, 2.0, 6.0])) == pytest.approx((0.25 * 1 + 1 * 2 + 0.25 * 6) / 1.5)


@pytest.mark.parametrize("differences", [[3, 1, 2, 4, 1.5], [-3, 1, 2, -4, 0.5], [0.1, 0.1, 0.1, 0.1]])
def test_the_p_value_is_the_share_of_all_signs_that_are_as_far_from_zero(differences):
    count = 0
    for signs in itertools.product([1, -1], repeat=len(differences)):
        total = sum(s * d for s, d in zip(signs, differences, strict=True))
        count += abs(total) >= abs(sum(differences)) - 1e-9
    assert sign_test(np.array(differences)) == count / 2 ** len(differences)


def test_ten_equal_signs_give_two_in_1024_and_no_difference_gives_one():
    assert sign_test(np.arange(1.0, 11)) == 2 / 1024
    assert sign_test(-np.arange(1.0, 11)) == 2 / 1024
    assert sign_test(np.zeros(10)) == 1


def test_random_signs_come_near_all_signs():
    differences = np.random.default_rng(3).normal(0.3, 1, size=13)
    signs = np.array(list(itertools.product([1, -1], repeat=13)))
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    assert abs(sign_test(differences) - exact) < 5 * np.sqrt(exact * (1 - exact) / 20_000)
    assert 0.02 < exact < 0.98
    assert sign_test(np.full(50, 0.1)) > 0, "the observed signs are one of the possible ones"


def test_holm_corrects_a_family():
    """The example of Holm's method with four tests: each p value times the number of those that are left."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.2]) == [0.2]


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation_for_many_seeds():
    rng = np.random.default_rng(0)
    values = rng.normal([[0.0], [5.0]], [[1.0], [3.0]], size=(2, 100))
    found = mean_interval(values)
    # The tasks are strata: their different means do not widen the interval.
    error = np.sqrt((values.var(1) / 100).sum()) / 2
    assert found.value == values.mean()
    np.testing.assert_allclose([found.low, found.high], found.value + np.array([-1.96, 1.96]) * error, atol=0.1 * error)


@pytest.mark.parametrize(
    ("tasks", "seeds", "least"), [(1, 5, 0.9), pytest.param(1, 10, 0.93, marks=pytest.mark.slow), (5, 10, 0.93)]
)
def test_the_interval_of_a_mean_contains_it_in_95_percent_of_the_cases(tasks, seeds, least):
    """With plain percentiles it would be .83 of the cases for five seeds of one task, and .90 for ten."""
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.normal(size=(tasks, seeds))) for _ in range(1000)]
    assert least <= np.mean([not each.excludes(0) for each in found]) <= 0.98


def test_the_ratio_of_two_means_is_paired():
    wholes = np.array([1.0, 2, 3, 4, 5])
    assert ratio_interval(wholes / 2, wholes) == pytest.approx((0.5, 0.5, 0.5))
    found = ratio_interval(np.array([1.0, 0, 3, 2, 5]), wholes)
    assert found.value == pytest.approx(11 / 15)
    assert 0 <= found.low < found.value < found.high <= 1


def test_the_score_over_tasks_keeps_each_task_and_resamples_within_it():
    scores = np.repeat([[0.0], [1.0], [2.0], [9.0]], 10, axis=1)  # without any spread over the seeds
    assert score_interval(scores) == Interval(3, 3, 3)
    outlier = np.array([[0.0] * 9 + [100.0], [1.0] * 10])
    assert score_interval(outlier).value == 0.5, "the highest quarter of the seeds is left out"


def test_the_probability_of_improvement_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(0)
    mine, theirs = rng.integers(0, 5, 10) + 0.0, rng.integers(1, 6, 10) + 0.0
    u = scipy.stats.mannwhitneyu(theirs, mine).statistic
    found = improvement(mine[None], theirs[None])
    assert found.value == u / 100
    assert found.low < found.value < found.high
    two = improvement(np.stack([mine, theirs]), np.stack([theirs, mine]))
    assert two.value == pytest.approx(0.5), "a win on one task and the opposite on the other"
    assert improvement(mine[None], mine[None] * (1 + 1e-9)).value == 0.5, "a difference by rounding is no win"


def test_ranks_are_those_of_the_interquartile_means():
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 0.01, (3, 10)), rng.normal(1, 0.01, (3, 10))
    found = rank_intervals({"high": high, "low": low, "low again": low})
    assert found["high"] == Interval(3, 3, 3)
    assert found["low"] == found["low again"] == Interval(1.5, 1.5, 1.5)


def draw(rng, mean=0.2, spread=0.1, tasks=5):
    return np.clip(rng.normal(mean, spread, (tasks, 10)), 0, 1)


def test_a_difference_is_found_and_a_tie_is_shown():
    rng = np.random.default_rng(0)
    reference = draw(rng)
    found = verdicts(
        {
            "better": (reference - 0.1, reference),
            "worse": (reference + rng.normal(0.2, 0.1, reference.shape), reference),
            "tie": (reference + 0.01, reference),
            "undecided": (draw(rng, spread=0.4), draw(rng, spread=0.4)),
        }
    )
    assert {name: verdict.word for name, verdict in found.items()} == {name: name for name in found}
    assert found["tie"].p < 0.05, "a small difference that is certain is a tie"


def test_five_seeds_of_one_task_are_too_few_for_any_verdict_but_a_tie():
    one, other = np.zeros((1, 5)), np.ones((1, 5))
    assert verdicts({"pair": (one, other)})["pair"].word == "undecided"


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_of_twenty_identical_strategies_no_pair_differs(seed):
    """Skewed scores, as those of runs of which some diverge. Without Holm's correction, 8 to 27 pairs would differ."""
    rng = np.random.default_rng(seed)
    scores = {
        n: np.where(rng.random((5, 10)) < 0.1, 1, np.minimum(rng.lognormal(-2, 0.6, (5, 10)), 1)) for n in range(20)
    }
    pairs = {f"{a} {b}": (scores[a], scores[b]) for a, b in itertools.combinations(scores, 2)}
    words = [verdict.word for verdict in verdicts(pairs).values()]
    assert len(words) == 190
    assert words.count("better") + words.count("worse") == 0
