"""The labels of ticks, as strings."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from seqjax.report.ticks import PlainNumbers, log_ticks


def texts(low, high):
    """The labels on a logarithmic axis from `low` to `high`."""
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], [low, high])
    log_ticks(axes.yaxis)
    axes.set_ylim(low, high)
    figure.draw_without_rendering()
    places = axes.yaxis.get_majorticklocs()
    assert not [tick for tick in axes.yaxis.get_minor_ticks() if tick.label1.get_text()]
    shown = (places >= low * (1 - 1e-9)) & (places <= high * (1 + 1e-9))
    return [text.get_text() for text, is_shown in zip(axes.get_yticklabels(), shown, strict=True) if is_shown]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.38, 0.62, ["0.4", "0.45", "0.5", "0.55", "0.6"]),
        (9.4, 22.9, ["10", "15", "20"]),
        (1, 5.9, ["1", "2", "3", "4", "5"]),
        (0.9, 13, ["1", "2", "3", "5", "10"]),
        (0.5, 60, ["0.5", "1", "2", "5", "10", "20", "50"]),
        (0.9, 20_000, ["1", "10", "100", "1,000", "10,000"]),
    ],
)
def test_ticks_that_people_read(low, high, expected):
    assert texts(low, high) == expected


@pytest.mark.parametrize("low", [1e-4, 0.3, 4.4, 2e4])
@pytest.mark.parametrize("factor", [1.02, 2.0, 5.9, 6.1, 25.0, 900.0])
def test_every_range_has_some_ticks_and_not_too_many(low, factor):
    found = texts(low, low * factor)
    assert 2 <= len(found) <= 10
    assert len(set(found)) == len(found), "each label is another number"


def test_numbers_as_texts():
    texts = {0.0: "0", 0.6: "0.6", 0.001: "0.001", 1.0: "1", 10 * 0.3: "3", 1000.0: "1,000", 1e5: "$10^{5}$"}
    texts |= {1e-6: "$10^{-6}$", np.float64(1e-4) * 2.5: r"$2.5\times10^{-4}$"}
    for number, text in texts.items():
        assert PlainNumbers()(number) == text
