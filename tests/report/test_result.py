"""What a result should be: whether it is, and how both are shown."""

import math

import pytest

from seqjax import Error, Report


@pytest.fixture
def report():
    return Report(title="Is it so?")


@pytest.mark.parametrize(
    ("expected", "met", "unmet"),
    [
        ({"expected": 28}, [28, [27, 28, 90]], [28.4, math.nan, math.inf, "28"]),
        ({"expected": 0.25, "tolerance": 0.125}, [0.125, 0.375], [0.1249, 0.3751, "0.25"]),
        ({"expected": "the time"}, ["the time"], ["the tim", 3.0]),
        ({"low": 0.0471, "high": 0.0617}, [0.0471, 0.0617, [0.01, 0.05, 0.9]], [0.07, 0.04, math.nan, "the time"]),
        ({"expected": 1.0, "low": 2, "high": 3}, [2, 3], [1.0]),
        ({"high": 1.4}, [1.4, -math.inf], [1.41, math.nan]),
        ({"low": 0.65}, [0.65, math.inf], [0.64]),
    ],
    ids=str,
)
def test_a_result_is_as_expected_or_not(report, expected, met, unmet):
    for got in (*met, *unmet):
        report.row("x", got, **expected)
    assert report.results["met"] == ["yes"] * len(met) + ["no"] * len(unmet)


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"expected": 8960}, "8,960"), ({"expected": 0.25}, "0.25"), ({"expected": "the time"}, "the time"),
        ({"expected": 0.26302083, "tolerance": 5e-9}, "0.26302083 ± 5e-09"),
        ({"expected": 0.0538, "low": 0.0471, "high": 0.0617}, "0.0538 (0.0471 to 0.0617)"),
        ({"low": 13, "high": 220}, "13 to 220"), ({"high": 1.4}, "at most 1.4"), ({"low": 8}, "at least 8"),
        ({"low": 8, "remark": "diverges"}, "at least 8, diverges"), ({"remark": "reference 3.0"}, "reference 3.0"),
        ({}, ""),
    ],
)  # fmt: skip
def test_what_is_expected_is_shown_in_words(report, expected, words):
    report.row("x", "no number", **expected)
    assert report.to_markdown().splitlines()[-1].split("| ")[3].strip() == words
    assert report.results["met"] == ["" if {*expected} <= {"remark"} else "no"]


@pytest.mark.parametrize(
    ("got", "expected", "shown"),
    [
        (0.0459041, 0.045904, "0.045904"), (170580, 170580, "170,580"), (5.924362e-6, 5.92436e-6, "5.92436e-06"),
        (math.inf, 28, "inf"), (0.0538123, None, "0.05381"), ("three", 3, "three"), (28.0, 28, "28.00"),
        ([1.0, 2.0, 6.0], 2, "2.000 (1.000 to 6.000, n = 3)"),
    ],
)  # fmt: skip
def test_a_result_is_shown_in_the_digits_that_are_expected(report, got, expected, shown):
    report.row("x", got, expected)
    assert f"| x | {shown} |" in report.to_markdown()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"low": "much"}, "low = 'much': pass a number"), ({"expected": math.nan}, "expected = nan: pass a number"),
        ({"expected": [3]}, r"expected = \[3\]: pass a number"), ({"remark": 3}, "remark = 3: pass a text"),
        ({"expected": 3, "tolerance": -1}, "tolerance = -1 must be at least 0"),
        ({"tolerance": 1}, "needs a number"), ({"expected": "a", "tolerance": 1}, "needs a number"),
        ({"expected": 3, "tolerance": 1, "low": 2}, "either low and high, or a tolerance"),
        ({"low": 2, "high": 1}, "no number is from low = 2 to high = 1; give the lower end first"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_together(report, arguments, words):
    with pytest.raises(Error, match=f"row 'x': .*{words}"):
        report.row("x", 1.0, **arguments)
