"""The site that `make docs` has built: its links, its names, and that it needs no network."""

import functools
import os
import re
import zlib
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import reference
from fontTools.ttLib import TTFont

from seqjax.plugin import registry

pytestmark = pytest.mark.skipif("SEQJAX_SITE" not in os.environ, reason="SEQJAX_SITE names no site; type: make docs")
SITE = Path(os.environ.get("SEQJAX_SITE", "")).resolve()


class Page(NamedTuple):
    """What one page holds: the anchors in it, its links, and the files that it loads."""

    anchors: set[str]
    links: set[str]
    loaded: set[str]


class Reader(HTMLParser):
    """Reads a page."""

    def __init__(self):
        super().__init__()
        self.page = Page(set(), set(), set())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.page.anchors.update(filter(None, (found.get("id"), found.get("name") if tag == "a" else None)))
        if tag in ("a", "link") and found.get("href"):
            target = self.page.loaded if found.get("rel") in ("stylesheet", "icon", "preload") else self.page.links
            target.add(found["href"])
        if found.get("src"):
            self.page.loaded.add(found["src"])


def read(text: str) -> Page:
    reader = Reader()
    reader.feed(text)
    return reader.page


@functools.cache
def pages() -> dict[Path, Page]:
    files = [file for file in SITE.rglob("*.html") if "_downloads" not in file.parts]
    return {file: read(file.read_text("utf-8")) for file in files}


def dead(pages: dict[Path, Page]) -> list[str]:
    """The links and loaded files within the site that lead nowhere."""
    found = []
    for file, page in pages.items():
        for link in page.links | page.loaded:
            path, anchor = urldefrag(link)
            if urlsplit(link).scheme or urlsplit(link).netloc:
                continue
            target = (file.parent / unquote(urlsplit(path).path)).resolve() if path else file
            known = pages[target].anchors if target in pages else None
            if not target.is_file() or (anchor and known is not None and unquote(anchor) not in known):
                found.append(f"{file.relative_to(SITE)}: {link}")
    return found


def test_every_link_within_the_site_leads_somewhere():
    count = sum(len(page.links) for page in pages().values())
    print(f"{len(pages())} pages, {count:,} links")
    assert len(pages()) > 100
    assert dead(pages()) == []


def test_a_dead_link_is_found():
    home = SITE / "docs" / "index.html"
    planted = '<p id="a"><a href="#a"><a href="#b"><a href="gone.html"><img src="gone.png"><a href="//x.org">'
    found = dead(pages() | {home: read(planted)})
    assert {link for link in found if link.startswith("docs/index.html")} == {
        "docs/index.html: #b",
        "docs/index.html: gone.html",
        "docs/index.html: gone.png",
    }


def test_no_page_loads_anything_from_the_network():
    loaded = {(file.name, link) for file, page in pages().items() for link in page.loaded}
    assert len(loaded) > 100
    assert {(name, link) for name, link in loaded if urlsplit(link).netloc} == set()


def inventory() -> set[str]:
    """The names of Python objects in the inventory of the site."""
    data = (SITE / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(data).decode().splitlines()
    return {line.split()[0] for line in lines if line.split()[1].startswith("py:")}


def test_every_public_name_is_in_the_inventory():
    assert {reference.home(full) for full in reference.named()} - inventory() == set()
    plugins = {reference.class_name(entry) for kind in registry.GROUPS for entry in reference.built_in(kind)}
    assert len(plugins) > 50
    assert plugins - inventory() == set()


def test_an_equation_of_a_docstring_keeps_its_lines_and_characters():
    text = (SITE / "docs" / "reference" / "plugins-gradient.html").read_text("utf-8")
    assert "M_t = J_t M_{t-1} + I_t,   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ\ndl_t/dθ" in text


def test_the_font_of_equations_has_their_characters():
    """A character of another font would have another size, and other distances to its indices."""
    equations = "".join(
        part for file in pages() for part in re.findall(r"<math.*?</math>", file.read_text("utf-8"), re.S)
    )
    used = set(unescape(re.sub(r"<[^>]*>", "", equations))) - {"\n", "\N{FUNCTION APPLICATION}"}
    assert len(used) > 80
    assert used - {chr(code) for code in TTFont(SITE / "_static" / "equations.woff").getBestCmap()} == set()


def test_the_index_of_a_letter_with_an_accent_stands_beside_it():
    text = (SITE / "docs" / "course" / "8-1-sequences.html").read_text("utf-8")
    letter = (
        '<msub><mover><mi>x</mi><mostretchy="false">ˆ</mo></mover><mrow><mi>t</mi><mo>+</mo><mn>1</mn></mrow></msub>'
    )
    assert letter in "".join(text.split())


def test_an_equation_of_a_document_is_typeset():
    text = (SITE / "docs" / "gradients.html").read_text("utf-8")
    fraction = (
        "<mfrac><mrow><mi>d</mi><msub><mi>h</mi><mi>t</mi></msub></mrow><mrow><mi>d</mi><mi>w</mi></mrow></mfrac>"
    )
    assert fraction in "".join(text.split())
    assert r"\frac" not in text
