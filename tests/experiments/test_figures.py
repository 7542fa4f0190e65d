"""The figures of the referee, for scores that are made up."""

import pytest
from protocol.figures import score_against_price
from support.scores import made_up, problem


def test_each_strategy_has_its_name_its_price_and_its_score():
    """There are eleven strategies. The name of the most expensive one was once cut off at the edge of the figure."""
    others = {f"a-strategy-with-a-long-name:steps={n}": 0.3 for n in range(8)}
    scores = made_up(**others, dear=0.5)
    figure = score_against_price([problem("one", scores, prices={"dear": 20.0})])
    named = {line.get_label(): line for line in figure.axes[0].lines if not line.get_label().startswith("_")}
    assert set(named) == set(scores) - {"frozen"}
    (price,), (score,) = named["dear"].get_data()
    assert price == pytest.approx(20)
    assert score == pytest.approx(0.5, abs=0.001)
    # No two strategies have the same color and the same fill.
    assert len({(line.get_color(), line.get_fillstyle()) for line in named.values()}) == len(named)
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(named)
    assert all(figure.bbox.contains(*corner) for corner in figure.legends[0].get_window_extent().corners())
