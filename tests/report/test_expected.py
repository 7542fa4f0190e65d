"""What a result should be: whether it is, and how both are shown."""

import math

import pytest

from seqjax import Error, Report
from seqjax.report import Expected, at_least, at_most, between, exactly, less_than, more_than


@pytest.fixture
def report(tmp_path):
    (tmp_path / "script.py").write_text("")
    return Report(tmp_path / "script.py")


@pytest.mark.parametrize(
    ("got", "expected", "met"),
    [
        (28, exactly(28), "yes"),
        (28.4, exactly(28), "yes"),
        (28.6, exactly(28), "no"),
        (0.26302083, exactly(0.26302083), "yes"),
        (0.263020834, exactly(0.26302083), "yes"),
        (0.26302084, exactly(0.26302083), "no"),
        (0.9996, exactly("1.000"), "yes"),
        (0.9994, exactly("1.000"), "no"),
        (170580, exactly("170,580"), "yes"),
        (170581, exactly("170,580"), "no"),
        (5.92436e-6, exactly(5.92436e-6), "yes"),
        (5.92438e-6, exactly(5.92436e-6), "no"),
        (-30.98, exactly(-30.98), "yes"),
        (3.5, exactly(3), "no"),  # shown as 4
        (0.0, exactly(-0.0), "yes"),
        (math.nan, exactly(28), "no"),
        (math.inf, exactly(28), "no"),
        ([27, 28, 90], exactly(28), "yes"),
        (0.055, between(0.0471, 0.0617, about=0.0538), "yes"),
        (0.0471, between(0.0471, 0.0617), "yes"),
        (0.0617, between(0.0471, 0.0617), "yes"),
        (0.07, between(0.0471, 0.0617), "no"),
        (0.04, between(0.0471, 0.0617), "no"),
        (math.nan, between(0.0471, 0.0617), "no"),
        ([0.01, 0.05, 0.9], between(0.0471, 0.0617), "yes"),
        (8930, between("8,900", "8,960", about="8,930"), "yes"),
        (1.4, at_most(1.4), "yes"),
        (1.41, at_most(1.4), "no"),
        (0.65, at_least(0.65), "yes"),
        (0.64, at_least(0.65), "no"),
        (math.inf, at_least(1), "yes"),
        (0.0, less_than(0), "no"),
        (-math.inf, less_than(0), "yes"),
        (0.1, more_than(0), "yes"),
        (0.0, more_than(0), "no"),
        (math.nan, more_than(0), "no"),
        (8.1, Expected("> 8, diverges", lambda got: got > 8), "yes"),
        (7.9, Expected("> 8, diverges", lambda got: got > 8), "no"),
        ("the time", exactly("the time"), "yes"),
        ("the time", exactly("the tim"), "no"),
        ("28", exactly(28), "yes"),
        ("the time", between(0, 1), "no"),
        ("the time", less_than(0), "no"),
        (3.0, exactly("the time"), "no"),
        (3.0, "persistence 3.0", ""),
        (3.0, "= 3", ""),
        (3.0, "", ""),
    ],
)
def test_a_result_is_as_expected_or_not(report, got, expected, met):
    report.row("x", got, expected)
    assert report.results["met"] == [met]


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (exactly(28), "= 28"),
        (exactly(0.045904), "= .045904"),
        (exactly("0.045904"), "= 0.045904"),
        (exactly(-0.25), "= -.25"),
        (exactly(0), "= 0"),
        (exactly(1.0), "= 1.0"),
        (exactly(1.1), "= 1.1"),
        (exactly(10.25), "= 10.25"),
        (exactly("8,960"), "= 8,960"),
        (exactly(3e-9), "= 3e-9"),
        (exactly(2.5e-17), "= 2.5e-17"),
        (exactly("3.5e15"), "= 3.5e15"),
        (exactly("the time"), "= the time"),
        (between(0.0471, 0.0617, about=0.0538), "~ .0538 (.0471 to .0617)"),
        (between("5e-4", 0.95, about=".10"), "~ .10 (5e-4 to .95)"),
        (between(13, 220), "13 to 220"),
        (at_most(1.4), "<= 1.4"),
        (at_least(0.65), ">= .65"),
        (less_than(0), "< 0"),
        (more_than(8), "> 8"),
        (Expected("> 8, diverges", lambda got: got > 8), "> 8, diverges"),
        ("persistence 3.0", "persistence 3.0"),
    ],
)
def test_an_expectation_is_shown_as_it_is_typed(report, expected, text):
    report.row("x", 1.0, expected)
    assert report.results["expected"] == [text] == [str(expected)]


@pytest.mark.parametrize(
    ("got", "expected", "shown"),
    [
        (0.0459041, exactly(0.045904), "0.045904"),
        (28.0, exactly(28), "28"),
        (28.6, exactly(28), "29"),
        (170580, exactly(170580), "170,580"),
        (5.924362e-6, exactly(5.92436e-6), "5.92436e-06"),
        (-1e-17, exactly("0.000"), "0.000"),
        (1.9999000008, exactly(1.9999000008), "1.9999000008"),
        (math.inf, exactly(28), "inf"),
        (0.0538123, between(0.0471, 0.0617), "0.05381"),
        (1.2, at_most(1.4), "1.200"),
        (3.0, "= 3", "3.000"),
        (3.0, exactly("three"), "3.000"),
        ("three", exactly(3), "three"),
        ([1.0, 2.0, 6.0], exactly(2), "2.000 (1.000 to 6.000, n = 3)"),
    ],
)
def test_a_result_is_shown_in_the_digits_that_are_expected(report, got, expected, shown):
    report.row("x", got, expected)
    assert report.results["shown"] == [shown]
    assert f"| x | {shown} |" in report.to_markdown()


@pytest.mark.parametrize("make", [at_most, at_least, less_than, more_than, lambda text: between(text, 1)])
def test_a_limit_is_a_number(make):
    with pytest.raises(Error, match="'much' cannot be a limit"):
        make("much")


def test_an_empty_interval_is_an_error():
    with pytest.raises(Error, match=r"between\(2, 1\) contains no number; give the lower end first"):
        between(2, 1)


@pytest.mark.parametrize("expected", [28, None])
def test_another_value_is_not_an_expectation(report, expected):
    with pytest.raises(Error, match=rf"row 'x': expected is .*exactly\({expected}\)"):
        report.row("x", 28, expected)
