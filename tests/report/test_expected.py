"""Whether a result is what a text says that it should be."""

import math

import pytest

from seqjax.report.expected import in_expected_digits, is_met


@pytest.mark.parametrize(
    ("got", "expected", "met"),
    [
        (28, "= 28", True),
        (28.4, "= 28", True),
        (28.6, "= 28", False),
        (0.26302083, "= .26302083", True),
        (0.263020834, "= .26302083", True),
        (0.26302084, "= .26302083", False),
        (170580, "= 170,580", True),
        (170581, "= 170,580", False),
        (5.92436e-6, "= 5.92436e-6", True),
        (5.92438e-6, "= 5.92436e-6", False),
        (-30.98, "= -30.98", True),
        (3.5, "= 3", False),  # shown as 4
        (0.0, "= -0.0", True),
        (math.nan, "= 28", False),
        (0.055, "~ .0538 (.0471 to .0617)", True),
        (0.07, "~ .0538 (.0471 to .0617); 20 seeds", False),
        (math.nan, "~ .0538 (.0471 to .0617)", False),
        (8930, "~ 8,930 (8,900 to 8,960)", True),
        (0.0538, "~ .0538", None),
        (1.4, "<= 1.4", True),
        (1.41, "<= 1.4, of one seed", False),
        (0.65, ">= .65", True),
        (0.0, "< 0", False),
        (0.1, "> 0", True),
        (math.inf, ">= 1", True),
        (3.0, "persistence 3.0", None),
        (3.0, "", None),
        (3.0, "= 3 , to the digit", True),
        (3.0, "= 3 or so", None),
        (5.6, "= 5 to 6", None),
        (5.6, "<= 5 or 6", None),
        ("the time", "= the time", True),
        ("the time", "= the tim", False),
        ("the time", "< 0, > 0", None),
    ],
)
def test_a_result_is_met_or_not(got, expected, met):
    assert is_met(got, expected) is met


@pytest.mark.parametrize(
    ("got", "expected", "shown"),
    [
        (0.0459041, "= .045904", "0.045904"),
        (28.0, "= 28", "28"),
        (28.6, "= 28", "29"),
        (170580, "= 170,580", "170,580"),
        (5.924362e-6, "= 5.92436e-6", "5.92436e-06"),
        (-1e-17, "= 0.000", "0.000"),
        (1.9999000008, "= 1.9999000008, exactly", "1.9999000008"),
        (0.0538, "~ .0538 (.0471 to .0617)", None),
        (1.2, "<= 1.4", None),
        (math.inf, "= 28", None),
        (3.0, "", None),
        (5.6, "= 5 to 6", None),
    ],
)
def test_a_result_is_shown_in_the_digits_that_are_expected(got, expected, shown):
    assert in_expected_digits(got, expected) == shown
