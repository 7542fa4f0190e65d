"""What a result should be: whether it is, and how both are shown."""

import math

import pytest

from seqjax import Error, Report
from seqjax.report import Expected, at_least, at_most, between, exactly, less_than, more_than


@pytest.fixture
def report(tmp_path):
    (tmp_path / "script.py").write_text("")
    return Report(tmp_path / "script.py")


DIVERGES = Expected("> 8, diverges", lambda got: got > 8)


@pytest.mark.parametrize(
    ("expected", "met", "unmet"),
    [
        (exactly(28), [28, 28.4, [27, 28, 90], "28"], [28.6, math.nan, math.inf]),
        (exactly(0.26302083), [0.26302083, 0.263020834], [0.26302084]),
        (exactly("1.000"), [0.9996], [0.9994]),
        (exactly("170,580"), [170580], [170581]),
        (exactly(3), [], [3.5]),  # shown as 4
        (exactly(-0.0), [0.0], []),
        (exactly("the time"), ["the time"], ["the tim", 3.0]),
        (between(0.0471, 0.0617), [0.0471, 0.0617, [0.01, 0.05, 0.9]], [0.07, 0.04, math.nan, "the time"]),
        (between("8,900", "8,960", about="8,930"), [8930], []),
        (at_most(1.4), [1.4], [1.41]),
        (at_least(0.65), [0.65, math.inf], [0.64]),
        (less_than(0), [-math.inf], [0.0, "the time"]),
        (more_than(0), [0.1], [0.0, math.nan]),
        (DIVERGES, [8.1], [7.9]),
    ],
    ids=str,
)
def test_a_result_is_as_expected_or_not(report, expected, met, unmet):
    for got in (*met, *unmet):
        report.row("x", got, expected)
    assert report.results["met"] == ["yes"] * len(met) + ["no"] * len(unmet)


def test_an_expectation_is_shown_as_it_is_typed(report):
    texts = {
        **{f"= {value}": exactly(value) for value in (28, 0, 1.0, 10.25, "0.045904", "8,960", "3.5e15", "the time")},
        **{"= .045904": exactly(0.045904), "= -.25": exactly(-0.25)},
        **{"= 3e-9": exactly(3e-9), "= 2.5e-17": exactly(2.5e-17)},
        "~ .0538 (.0471 to .0617)": between(0.0471, 0.0617, about=0.0538),
        "~ .10 (5e-4 to .95)": between("5e-4", 0.95, about=".10"),
        "13 to 220": between(13, 220),
        **{"<= 1.4": at_most(1.4), ">= .65": at_least(0.65), "< 0": less_than(0), "> 8": more_than(8)},
        "> 8, diverges": DIVERGES,
        "persistence 3.0": "persistence 3.0",
    }
    for text, expected in texts.items():
        report.row("x", 1.0, expected)
        assert str(expected) == text
    assert report.results["expected"] == [*texts]


@pytest.mark.parametrize(
    ("got", "expected", "shown"),
    [
        (0.0459041, exactly(0.045904), "0.045904"),
        (28.6, exactly(28), "29"),
        (170580, exactly(170580), "170,580"),
        (5.924362e-6, exactly(5.92436e-6), "5.92436e-06"),
        (-1e-17, exactly("0.000"), "0.000"),
        (math.inf, exactly(28), "inf"),
        (0.0538123, between(0.0471, 0.0617), "0.05381"),
        ("three", exactly(3), "three"),
        ([1.0, 2.0, 6.0], exactly(2), "2.000 (1.000 to 6.000, n = 3)"),
    ],
)
def test_a_result_is_shown_in_the_digits_that_are_expected(report, got, expected, shown):
    report.row("x", got, expected)
    assert report.results["shown"] == [shown]
    assert f"| x | {shown} |" in report.to_markdown()


def test_a_limit_is_a_number():
    for make in (at_most, at_least, less_than, more_than, lambda text: between(text, 1)):
        with pytest.raises(Error, match="'much' cannot be a limit"):
            make("much")


def test_an_empty_interval_and_another_value_are_errors(report):
    with pytest.raises(Error, match=r"between\(2, 1\) contains no number; give the lower end first"):
        between(2, 1)
    with pytest.raises(Error, match=r"row 'x': expected is .*exactly\(28\)"):
        report.row("x", 28, 28)
