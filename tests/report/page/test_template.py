"""The template of all pages: what is in a text stays a text, and nothing from elsewhere is loaded."""

import base64
import hashlib
import json
import math
import re

import pytest
from matplotlib.colors import to_rgb
from support.html_page import HTMLPage

from seqjax.report import Table
from seqjax.report.page.template import FILES, Section, page, table, to_json

EVIL = "</script><script>alert(1)</script><!-- ' \" & \u2028 \x1b[2J"


def made(name: str) -> HTMLPage:
    content = table(Table(["a", name], [[name, 1.23456], ["b", math.nan], ["c", None]]), name)
    data = {"name": name, "n": [1, 2.5, math.inf]}
    return HTMLPage(page(name, "<p>lead</p>", [Section("one", name, content)], ["tables.js"], data).decode())


def test_a_text_is_shown_and_never_run():
    found = made(EVIL)
    shown = EVIL.replace("\x1b", "\\x1b").replace("\u2028", "\\u2028")
    assert found.texts["title"] == found.texts["h1"] == found.texts["h2"] == found.texts["caption"] == [shown]
    assert shown in found.texts["th"]
    assert json.loads(found.texts["script"][0]) == {"name": EVIL, "n": [1, 2.5, None]}
    # Nothing but the data and the script of the project.
    assert len(found.texts["script"]) == 2
    assert found.texts["script"][1] == (FILES / "tables.js").read_text("utf-8")
    assert [name for _, attributes in found.elements for name in attributes if name.startswith("on")] == []
    assert found.attributes("style") == []


def test_the_policy_allows_the_scripts_and_styles_of_the_page_alone():
    found = made("a name")
    (policy,) = (value for value in found.attributes("content") if "default-src" in value)
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == directives["base-uri"] == directives["form-action"] == "'none'"
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        digest = hashlib.sha256(found.texts[tag][-1].encode()).digest()
        assert directives[directive] == f"'sha256-{base64.b64encode(digest).decode()}'"


def test_a_cell_has_the_digits_of_the_table_and_all_digits_for_sorting():
    found = made("a name")
    cells = {a["data-value"]: a.get("class") for tag, a in found.elements if tag == "td" and "data-value" in a}
    assert cells == {"1.23456": "number", "nan": "number"}
    assert found.texts["td"] == ["1.235", "nan", ""]
    assert found.attributes("scope") == ["col", "col", "row", "row", "row"]


def test_marked_cells_and_no_others_are_marked():
    content = Table(["x", "y", "z"], [[1, "a", "b"], [2, "c", "d"]])
    assert HTMLPage(table(content, "t", {(0, "z"), (1, "y")})).texts["mark"] == ["b", "c"]


def test_a_lone_surrogate_is_shown_as_an_escape():
    content = page("\ud800", "", [], [], {"name": "\ud800"})
    assert "<h1>\\ud800</h1>" in content.decode()
    assert json.loads(HTMLPage(content.decode()).texts["script"][0]) == {"name": "\ud800"}


@pytest.mark.parametrize("text", ["</script>", "<!--", "]]>", "&lt;", EVIL])
def test_json_has_no_character_that_means_something_in_html(text):
    assert not re.search("[<>&\u2028]", to_json({text: text}))
    assert json.loads(to_json({text: text})) == {text: text}


def contrast(a: str, b: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, relative luminance)."""

    def luminance(colour):
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_texts_and_curves_can_be_seen_on_their_background():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    blocks = re.findall(r":root \{.*?\n *\}", (FILES / "style.css").read_text("utf-8"), re.S)
    assert len(blocks) == 3, "light, dark and print"
    for block in blocks:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6});", block))
        assert sum(name[1:].isdigit() for name in colours) == 8
        for name, colour in colours.items():
            if name in ("text", "soft", "link"):
                assert min(contrast(colour, colours[back]) for back in ("back", "panel")) >= 4.5, name
            elif name[1:].isdigit():
                assert contrast(colour, colours["back"]) >= 3, name
        assert contrast(colours["text"], colours["mark"]) >= 4.5
