"""The range of the y axis: the end of curves is readable, and only their start is left out."""

import numpy as np
import pytest

from seqjax.report.figure import Figure
from seqjax.report.plot_range import show_end


def shown(*drawn):
    """What the legend says, and the two ends of the axis."""
    axes = Figure().subplots()
    text = show_end(axes, [np.atleast_2d(np.asarray(values, float)) for values in drawn])
    return text, *axes.get_ylim()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_minimum_in_the_first_half_is_inside_the_axis(sign):
    losses = np.array([40, 9, 4, 3, 4, 5, 6, 7, *np.linspace(8, 9, 12)])  # the last half alone is from 8 to 9
    text, *ends = shown(sign * losses)
    low, high = sorted(sign * end for end in ends)
    assert text == f"start outside the axis: {'up to 40' if sign == 1 else 'down to -40'}"
    assert 2 < low < 3
    assert 9 < high < 13


def test_a_minimum_of_a_curve_that_starts_in_the_range_is_inside_the_axis():
    text, low, _ = shown([8.5, 5, 3, 5, 7, 8, 8.2, 8.4, 8.6, 8.8], [40, 12, 9, *[8.5] * 7])
    assert text == "start outside the axis: up to 40"
    assert low < 3


def test_a_spike_on_the_side_of_the_start_does_not_hide_the_end():
    text, _, high = shown([40, 1.0001, 500, 200, 50, *np.linspace(1.2, 1, 15)])
    assert text == "start outside the axis: up to 500"
    assert high < 1.5


def test_a_curve_that_ends_at_the_start_does_not_hide_the_end_of_the_others():
    line = 1 + 7 * 0.4 ** np.arange(20)
    band = np.where(np.arange(20) < 4, line + 0.1, np.nan)
    text, _, high = shown([line, band, band - 0.2])
    assert text == "start outside the axis: up to 8.1"
    assert high < 1.5
