"""Bootstrap intervals against all possible draws. tests/report/test_plot.py has those of nine seeds."""

import itertools

import numpy as np
import pytest

from seqjax.report.bootstrap import interval


@pytest.mark.parametrize("average", ["mean", "median"])
def test_the_interval_is_that_of_all_draws(average):
    values = np.array([0.0, 1.0, 3.0, 7.0, 20.0])
    draws = np.array(list(itertools.product(values, repeat=5)))  # each of them is equally likely
    exact = np.percentile(getattr(np, average)(draws, axis=1), [10, 90])
    np.testing.assert_allclose(np.ravel(interval(values[:, None], average, level=0.8)), exact, atol=0.21)


def test_three_seeds_have_their_range_and_the_order_of_the_seeds_does_not_matter():
    values = np.random.default_rng(0).normal(size=(3, 30))
    low, high = interval(values)
    np.testing.assert_allclose(low, values.min(0))
    np.testing.assert_allclose(high, values.max(0))
    many = np.random.default_rng(1).normal(size=(20, 5))
    np.testing.assert_allclose(interval(many[::-1]), interval(many), atol=0.05)
    np.testing.assert_array_equal(interval(many, "median"), interval(many[::-1], "median"))


def test_more_columns_than_are_resampled_at_once():
    values = np.random.default_rng(2).normal(size=(6, 260))
    for average in ("mean", "median"):
        whole = np.stack(interval(values, average))
        np.testing.assert_allclose(whole[:, 250:], np.stack(interval(values[:, 250:], average)), rtol=1e-12)


def test_a_column_that_is_not_finite_has_no_interval():
    low, high = interval(np.array([[1.0, np.nan, np.inf], [2.0, 1.0, 1.0], [3.0, 1.0, 1.0], [4.0, 1.0, 1.0]]))
    assert np.isfinite([low[0], high[0]]).all()
    assert np.isnan([low[1], high[1], high[2]]).all()
