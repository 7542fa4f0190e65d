"""Titles in lines, and legends in columns."""

from matplotlib.lines import Line2D

from seqjax.report.plot_layout import add_legend, new_figure
from seqjax.report.plot_style import current


def test_a_title_is_broken_between_its_parts():
    with current():
        figure, _ = new_figure("", "", " · ".join(["part one of it", "part two of it"] * 4))
    lines = figure.get_suptitle().split("\n")
    assert len(lines) == 2
    assert all(part in ("part one of it", "part two of it") for line in lines for part in line.split(" · "))


def test_each_group_has_columns_of_its_own():
    groups = [[(Line2D([], []), name * 20) for name in names] for names in ("ab", "xyz")]
    with current():
        figure, (axes,) = new_figure("", "", "", panels=1)
        add_legend(figure, axes, groups, caption="c")
    figure.draw_without_rendering()
    left = {text.get_text()[:1]: round(text.get_window_extent().x0) for text in axes.get_legend().get_texts()}
    assert left["a"] == left["b"]
    assert left["x"] == left["y"] == left["z"] > left["a"]
    assert axes.get_legend().get_title().get_text() == "c"
