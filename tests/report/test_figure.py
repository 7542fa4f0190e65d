"""Figures as images, in files and in notebooks."""

import io

from IPython.core.formatters import DisplayFormatter
from matplotlib.image import imread

from seqjax.report import plot
from seqjax.report.figure import image_bytes


def test_a_notebook_gets_one_image_with_the_width_of_the_figure():
    figure = plot.lines({"loss": [1.0, 2.0]})
    data, metadata = DisplayFormatter().format(figure)
    assert set(data) == {"image/png", "text/plain"}
    assert metadata == {"image/png": {"width": 576}}
    pixels = imread(io.BytesIO(data["image/png"]))
    assert pixels.shape[1] == 4.8 * 150


def test_the_same_figure_gives_the_same_bytes_however_often_it_is_drawn():
    figure = plot.heatmap([[1.0, -0.5], [0.0, 1.0]], ["a long name", "b"], ["c", "another"])
    assert len({figure._repr_png_()[0] for _ in range(2)}) == 1
    assert len({image_bytes(figure, "svg") for _ in range(2)}) == 1
