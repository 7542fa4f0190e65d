"""The statistics of the referee, against brute force, other libraries and published examples."""

import itertools

import numpy as np
import pytest
from protocol.statistics import (
    Interval,
    holm,
    improvement,
    mean_interval,
    rank_intervals,
    ranks_without_a_task,
    sign_test,
    verdicts,
)


@pytest.mark.parametrize(
    "differences",
    [
        [[3, 1, 2, 4, 1.5]],
        [[-3, 1, 2, -4, 0.5]],
        [[0.1, 0.1, 0.1, 0.1]],
        [[1, 2, 1, 0.5], [-2, 1, -1, 3]],
        [[1, 1.2], [5, 4.0], [-0.1, 0.2]],
    ],
)
def test_the_p_value_is_the_share_of_all_signs_that_are_as_far_from_zero(differences):
    """In units of the standard error of the mean over tasks, each of which has a variance of its own."""

    def statistic(tasks):
        means = [sum(task) / len(task) for task in tasks]
        variances = [sum((d - m) ** 2 for d in task) / len(task) for task, m in zip(tasks, means, strict=True)]
        return abs(sum(means)) / max(sum(variances), 1e-300) ** 0.5

    sizes, count = [len(task) for task in differences], 0
    for signs in itertools.product([1, -1], repeat=sum(sizes)):
        changed = iter(s * d for s, d in zip(signs, itertools.chain(*differences), strict=True))
        count += statistic([[next(changed) for _ in range(n)] for n in sizes]) >= statistic(differences) * (1 - 1e-9)
    assert sign_test(np.array(differences)) == count / 2 ** sum(sizes)


def test_ten_equal_signs_give_two_in_1024_and_no_difference_gives_one():
    assert sign_test(np.arange(1.0, 11)[None]) == 2 / 1024
    assert sign_test(-np.arange(1.0, 11)[None]) == 2 / 1024
    assert sign_test(np.full((1, 10), 0.1)) == 2 / 1024
    assert sign_test(np.zeros((1, 10))) == 1
    assert sign_test(1e-18 * np.arange(10)[None] - 4e-18) == sign_test(np.arange(10.0)[None] - 4)


def test_random_signs_come_near_all_signs():
    differences = np.random.default_rng(3).normal(0.3, 1, size=(1, 13))
    signs = np.array(list(itertools.product([1, -1], repeat=13)))
    exact = np.mean(np.abs(signs @ differences[0]) >= abs(differences.sum()) - 1e-12)
    assert abs(sign_test(differences) - exact) < 5 * np.sqrt(exact * (1 - exact) / 20_000)
    assert 0.02 < exact < 0.98
    assert sign_test(np.full((5, 10), 0.1)) > 0, "the observed signs are one of the possible ones"


def test_tasks_that_disagree_do_not_hide_a_difference():
    """Each task has a difference that is certain, and so is their mean; 20,000 signs can show no lower p value."""
    rng = np.random.default_rng(0)
    differences = np.array([[0.6], [-0.3], [0.1]]) + 0.02 * rng.normal(size=(3, 10))
    verdict = verdicts({"pair": (differences, np.zeros((3, 10)))})["pair"]
    assert verdict.word == "worse"
    assert verdict.p_text == "≤ 5e-05"
    assert verdicts({"few": (differences[:1], np.zeros((1, 10)))})["few"].p_text == "0.002"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 10, 20])
@pytest.mark.parametrize("spreads", [[1], [1] * 5, [10, 1, 1, 0.1, 0.1]], ids=["one", "equal", "different"])
@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_coverage_and_level(seeds, spreads, draw):
    """The interval contains the mean in about 95 % of the cases, and the test rejects it in about 5 %, also if tasks
    have other means, and other variances."""
    rng, cases = np.random.default_rng(0), 400
    covered = rejected = 0
    means = np.linspace(-1, 1, len(spreads))[:, None] if len(spreads) > 1 else np.zeros((1, 1))
    for _ in range(cases):
        noise = (
            rng.normal(size=(len(spreads), seeds))
            if draw == "normal"
            else rng.exponential(size=(len(spreads), seeds)) - 1
        )
        values = means + np.array(spreads)[:, None] * noise
        covered += not mean_interval(values).excludes(0)
        rejected += sign_test(values) <= 0.05
    found = f"{covered / cases:.3f} covered, {rejected / cases:.3f} rejected"
    print(f"{draw}, tasks with spreads {spreads}, {seeds} seeds: {found}")
    # Four standard errors of 400 cases are .044; skewed values of few seeds have intervals that are too short.
    assert covered / cases > (0.9 if draw == "normal" else 0.82)
    assert rejected / cases < (0.1 if draw == "normal" else 0.16)


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


def test_the_mean_over_tasks_keeps_each_task_and_resamples_within_it():
    scores = np.repeat([[0.0], [1.0], [2.0], [9.0]], 10, axis=1)  # without any spread over the seeds
    assert mean_interval(scores) == pytest.approx((3, 3, 3))


def test_the_probability_of_improvement_counts_pairs():
    mine, theirs = np.array([[0.1, 0.5, 0.3, 0.3], [0.0, 0.0, 0.9, 0.9]]), np.full((2, 4), 0.3)
    found = improvement(mine, theirs)
    assert found.value == (1 + 0.5 + 0.5 + 2) / 8
    assert found.low < found.value < found.high
    assert improvement(mine, mine * (1 + 1e-9)).value == 0.5, "a difference by rounding is no win"


def test_ranks_are_those_of_the_means():
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


def test_ranks_without_a_task_leave_out_all_problems_of_it():
    scores = {"a": np.array([[0.1], [0.1], [0.9]]), "b": np.full((3, 1), 0.3)}
    scores = {name: np.repeat(each, 4, 1) for name, each in scores.items()}
    assert ranks_without_a_task(scores, ["add", "add", "copy"]) == {"a": (1, 2), "b": (1, 2)}
    assert ranks_without_a_task(scores, ["add", "copy", "add"])["a"] == (1, 2)
    assert ranks_without_a_task(scores, ["add"] * 3)["a"] == (2, 2)


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
