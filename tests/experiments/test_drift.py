"""Adaptation to a drift: who adapts, at which learning rate, and what is said of the claims of two papers."""

import drift
import numpy as np
import pytest
from protocol.statistics import Interval

import seqjax as sj


@pytest.mark.parametrize(
    ("recovery", "words"),
    [
        (Interval(1.0, 0.98, 1.02), "equal within 0.03; yes"),
        (Interval(1.0, 0.96, 1.02), "equal within 0.03; undecided"),
        (Interval(1.0, 0.98, 1.04), "equal within 0.03; undecided"),
        (Interval(0.7, 0.13, 0.85), "equal within 0.03; no"),
        (Interval(1.2, 1.04, 1.30), "equal within 0.03; no"),
    ],
)
def test_strategies_are_equal_if_the_whole_interval_lies_within_the_margin(recovery, words):
    assert drift.claim("immediate", "float64", recovery) == f"claimed: {words}"
    assert drift.claim("immediate", "float32", recovery) == ""


def test_a_claim_of_at_least_a_value_is_shown_by_the_lower_end_and_refuted_by_the_upper_one():
    words = [
        drift.claim("sparse-rtrl, 4 paths", "float32", Interval(0.8, *ends))
        for ends in ((0.85, 2), (0.5, 0.9), (0, 0.8))
    ]
    assert words == [f"claimed: at least .84; {word}" for word in ("yes", "undecided", "no")]


def test_a_recovery_has_no_value_where_rtrl_is_no_better_than_no_updates():
    unadapted, exact = np.array([1.0, 0.5, 0.5, 0.5]), np.array([0.2, 0.6, 0.6, 0.5])
    found = drift.recoveries(unadapted, exact, np.array([0.4, 2.0, 0.1, 0.7]))
    np.testing.assert_allclose(found, [0.75, -np.inf, np.inf, -np.inf])


def test_too_few_seeds_are_refused_before_the_training():
    with pytest.raises(sj.Error, match="--seeds 5: fewer than 6"):
        drift.main(seeds=5)


@pytest.mark.slow
def test_all_go_on_from_the_same_parameters_and_without_a_learning_rate_nobody_adapts():
    losses = drift.adapt(seeds=4, steps=40, hidden=3, rates=(0.0,))
    for each in losses.values():
        np.testing.assert_allclose(each, losses["no updates"], rtol=1e-6)


def test_the_interval_of_a_median_has_95_percent():
    """Of 20 values it goes from the 6th to the 15th, which cover the median with .959 (the binomial distribution)."""
    values = np.random.default_rng(0).permutation(20.0 + np.arange(20)) ** 3
    assert drift.median_interval(values) == (np.median(values), 25.0**3, 34.0**3)


@pytest.mark.slow
def test_recoveries_follow_from_the_losses_of_the_report():
    report = drift.main(seeds=6, steps=200, hidden=4, rates=(0.003,), precisions=("float64",))
    found = dict(zip(report.results["what"], report.results["got"], strict=True))
    losses = {strategy: np.array(each) for _, strategy, *each in report.tables["losses_after_the_change"].rows}
    saved = losses["no updates"] - losses["snap"]
    expected = drift.median_interval(saved / (losses["no updates"] - losses["rtrl"]))
    assert found["float64: recovery, snap"] == str(expected)
    assert "float64: recovery, rtrl" not in found
