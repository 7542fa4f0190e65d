"""The gallery shows the scripts as they are, and each of them runs."""

import re
import struct

import pytest
from support.gallery import FOLDER, ORDER, PAGE, code_of, count_of, run, text_of

EXACT = ("lags", "first_nan", "coverage", "tasks")
"""The scripts that print the same on every machine."""


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return struct.unpack(">II", png[16:24])


def test_the_page_shows_each_script_as_it_is():
    page = PAGE.read_text("utf-8")
    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob("*.py"))
    assert re.findall(r"^## (.*)$", page, re.M) == [text_of(name)[0] for name in ORDER]
    for name in ORDER:
        title, caption = text_of(name)
        assert f"{caption}\n\n![{title}](gallery/{name}.png)" in page
        lines = rf"\[{name}\.py\]\(gallery/{name}\.py\): {count_of(name)} lines, \d+ s\n\n"
        assert re.search(f"{lines}{re.escape(f'```python\n{code_of(name)}\n```')}", page), name


def test_the_first_page_of_the_site_shows_each_figure():
    index = (FOLDER.parent / "index.md").read_text("utf-8")
    shown = re.findall(r"\[!\[[^\]]+\]\(gallery/(\w+)\.png\) [\w ]+\]\(gallery\.md#([\w-]+)\)", index)
    anchors = {name: re.sub(r"[^\w -]", "", text_of(name)[0].lower()).replace(" ", "-") for name in ORDER}
    assert dict(shown) == anchors


@pytest.mark.parametrize("name", ORDER)
def test_a_figure_is_small_and_wide_enough_for_print(name):
    png = (FOLDER / f"{name}.png").read_bytes()
    assert size(png)[0] >= 900  # 8 cm at 300 dots an inch are 945
    assert len(png) < 200_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDER)
def test_a_script_makes_its_figure(name, tmp_path):
    made, printed, _ = run(name, tmp_path)
    if name in EXACT:
        assert f"```text\n{printed}\n```" in PAGE.read_text("utf-8")
    if made.suffix == ".png":
        assert size(made.read_bytes()) == size((FOLDER / f"{name}.png").read_bytes())
    else:  # the picture of the page was made in a browser
        assert made.stat().st_size > 2_000
