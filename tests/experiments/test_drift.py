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


@pytest.mark.slow
def test_rtrl_is_the_measure():
    rows = drift.main(seeds=4, steps=200, hidden=4, rates=(0.003,), precisions=("float64",)).results
    found = dict(zip(rows["what"], rows["got"], strict=True))
    assert (
        found["float64: recovery, rtrl"] == found["float64: loss beside that of rtrl, rtrl"] == "1.000 (1.000 to 1.000)"
    )
    assert float(found["float64: loss without updates"]) > 0
