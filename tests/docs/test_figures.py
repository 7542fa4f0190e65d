"""The figures of docs/figures: their scripts make them, and the map of strategies has every strategy once."""

import collections
import io
import runpy
import struct
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from seqjax.plugin import registry

FOLDER = Path(__file__).parents[2] / "docs" / "figures"
WRAPPERS = {"only", "certified"}
"""They have the gradient of another strategy, or a part of it."""


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_script_makes_its_figure(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    plt.close("all")
    made, shown = (tmp_path / f"{name}.png").read_bytes(), (FOLDER / f"{name}.png").read_bytes()
    assert size(made) == size(shown)
    pixels = [plt.imread(io.BytesIO(png)) for png in (made, shown)]
    # Edges may be smoothed in another way by another version of matplotlib. One other letter changes 39 pixels.
    assert (np.abs(pixels[0] - pixels[1]).max(2) > 0.2).sum() < 20, f"run python docs/figures/{name}.py"
    assert size(shown)[0] >= 900  # 8 cm at 300 dots an inch are 945
    assert len(shown) < 200_000
    assert f"](figures/{name}.png)" in (FOLDER.parent / "gradients.md").read_text("utf-8")


@pytest.fixture
def drawn():
    """The map as it is saved: its axes, and the names of the strategies in it."""
    script = runpy.run_path(str(FOLDER / "family.py"))
    with plt.style.context("seqjax.report.seqjax"):
        figure = plt.figure(figsize=(script["WIDTH"] / 72, script["HEIGHT"] / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        names = script["draw"](axes)
        figure.canvas.draw()
        yield axes, names
    plt.close(figure)


def test_the_map_has_every_strategy_once(drawn):
    found = collections.Counter(drawn[1])
    assert found.pop("snap") == 2  # n = 1, and a larger n
    built_in = {entry.name for entry in registry.entries("gradient") if entry.distribution == registry.BUILT_IN}
    assert found == dict.fromkeys(built_in - WRAPPERS - {"snap"}, 1)


def test_no_texts_of_the_map_overlap(drawn):
    axes, _ = drawn
    page = axes.get_window_extent()
    boxes = [(text.get_text(), text.get_window_extent()) for text in axes.texts]
    assert [words for words, box in boxes if not (page.x0 <= box.x0 < box.x1 <= page.x1)] == []
    pairs = [(a, b) for n, (a, first) in enumerate(boxes) for b, other in boxes[:n] if first.overlaps(other)]
    assert pairs == []
