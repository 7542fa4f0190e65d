"""Adaptation to a drift: who adapts, at which learning rate, and what is said of the claims of two papers."""

import drift
import numpy as np
import pytest
from protocol.statistics import Interval


@pytest.mark.parametrize(
    ("recovery", "words"),
    [
        (Interval(1.0, 0.98, 1.02), "equal within 0.03; it is"),
        (Interval(1.0, 0.96, 1.02), "equal within 0.03; not shown"),
        (Interval(1.0, 0.98, 1.04), "equal within 0.03; not shown"),
    ],
)
def test_strategies_are_equal_if_the_whole_interval_lies_within_the_margin(recovery, words):
    assert drift.claim("immediate", "float64", recovery) == f"claimed: {words}"
    assert drift.claim("immediate", "float32", recovery) == ""


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
