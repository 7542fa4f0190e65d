"""The style of a paper: its size, its fonts, and colours that differ in greyscale."""

import itertools
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import seqjax as sj
from seqjax.report.plot_style import PAPER


def lightness(colour):
    """L* of CIE 1976, by the formula of sRGB (IEC 61966-2-1)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(y) - 16 if y > 216 / 24389 else y * 24389 / 27


def test_the_colours_differ_in_greyscale():
    assert lightness("white") == pytest.approx(100)
    assert lightness("#777777") == pytest.approx(50, abs=0.1)
    levels = [lightness(colour) for colour in PAPER]
    assert min(abs(a - b) for a, b in itertools.combinations(levels, 2)) >= 11
    assert max(levels) <= 75, "visible on white"


@pytest.mark.parametrize(
    ("name", "points"),  # 72 in an inch
    [("paper", 234), ("icml", 234), ("icml-wide", 486), ("neurips", 396), ("ieee", 251.06), ("ieee-wide", 514.07)],
)
def test_a_figure_of_a_paper(name, points, tmp_path):
    with sj.plot.style(name):
        figure = sj.plot.lines({str(n): [0.0, n] for n in range(7)}, title="T")
        figure.savefig(tmp_path / "figure")
    axes = figure.axes[0]
    assert {text.get_fontsize() for text in (axes.xaxis.label, axes.yaxis.label)} == {8}
    # Ticks may be made after the end of the style.
    figure.draw_without_rendering()
    texts = [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.get_legend().get_texts()]
    assert {text.get_fontsize() for text in texts} == {7}
    assert [line.get_color() for line in axes.lines[:5]] == list(PAPER)
    assert len({line.get_linestyle() for line in axes.lines}) == 4
    data = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in data, "the fonts are TrueType"
    assert b"/Type3" not in data
    assert float(re.search(rb"/MediaBox \[ 0 0 (\S+)", data)[1]) == pytest.approx(points, abs=0.01)


def test_the_style_ends():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), sj.plot.style("paper"):
        raise ZeroDivisionError
    assert sj.plot.lines({"a": [1, 2]}).get_size_inches().tolist()[0] == 6
    assert dict(matplotlib.rcParams) == before, "a figure changes no settings either"


def test_a_setting_inside_the_style_holds():
    with sj.plot.style("paper"), matplotlib.rc_context({"axes.labelsize": 11}):
        assert sj.plot.lines({"a": [1, 2]}).axes[0].xaxis.label.get_fontsize() == 11


def test_a_style_that_does_not_exist():
    with pytest.raises(sj.Error, match="no style 'papper'; did you mean 'paper'"), sj.plot.style("papper"):
        pass
