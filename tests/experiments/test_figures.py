"""The figures of the referee, for losses that are made up."""

import pytest
from protocol.figures import score_against_price, score_by_task
from support.scores import made_up, problem


def test_each_strategy_has_its_name_its_prices_and_its_score():
    """There are eleven strategies. The name of the most expensive one was once cut off at the edge of the figure."""
    others = {f"a-strategy-with-a-long-name:steps={n}": 0.3 for n in range(8)}
    scores = made_up(**others, dear=0.5)
    one = problem("one", scores, prices={"dear": 20.0})
    one.prices["dear"]["temporaries"] = 900
    figure = score_against_price([one])
    for axis, price in zip(figure.axes, (20 * 100, 1000), strict=True):
        named = {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}
        assert set(named) == set(scores) - {"frozen", "twin", "wrong-sign"}
        (x,), (score,) = named["dear"].get_data()
        assert x == pytest.approx(price)
        assert score == pytest.approx(0.5, abs=0.001)
        # No two strategies have the same color and the same fill.
        assert len({(line.get_color(), line.get_fillstyle()) for line in named.values()}) == len(named)
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(named)
    assert all(figure.bbox.contains(*corner) for corner in figure.legends[0].get_window_extent().corners())


def test_the_map_has_a_number_for_each_problem_and_is_empty_where_a_strategy_does_not_take_it():
    figure = score_by_task([problem("one", made_up(mine=0.123)), problem("two", made_up())])
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["mine", "full", "immediate"]
    assert [text.get_text() for text in axis.texts] == [".12", ".20", ".20", ".80", ".80"]
    assert axis.images[0].get_array().mask.tolist() == [[False, True], [False, False], [False, False]]


def test_tasks_with_windows_of_their_own_are_averaged():
    problems = [
        problem(name, made_up(), prices={"immediate": 0.5}, windows=(window,))
        for name, window in (("one", 24), ("two", 40))
    ]
    for each in problems:
        each.prices["full"]["temporaries"] = 900
    (lines, *_) = [axis.lines for axis in score_against_price(problems).axes]
    assert {line.get_label() for line in lines} == {"full", "immediate", "_interval"}
