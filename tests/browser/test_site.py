"""The site in a browser, at two widths and in both colour schemes: no text lies on another one, or outside its box.

`make browser` builds the site first.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SITE.is_dir(), reason="there is no site; `make browser` builds it"),
]
GUIDES = ("index", "gallery", "gradients", "plugins", "online", "course/8-7-truncation", "course/8-8-elementwise")
PAGES = [
    *(SITE / "docs" / f"{name}.html" for name in (*GUIDES, "course/8-9-online")),
    SITE / "README.html",
    ROOT / "docs" / "chapter.html",
]
MEASURE = """
const main = document.querySelector('[role=main]') || document.querySelector('main')
const scrolls = each => ['auto', 'scroll', 'hidden'].includes(getComputedStyle(each).overflowX)
const lines = [], outside = []
const walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT)
for (let node; (node = walker.nextNode());) {
  const parent = node.parentElement
  // The parts of an equation lie in each other's boxes on purpose, and a button for copying lies on its code.
  if (!node.data.trim() || parent.closest('math, button, script, style, svg') || !parent.checkVisibility()) continue
  const range = document.createRange()
  range.selectNodeContents(node)
  const boxes = [...range.getClientRects()].filter(box => box.width > 1)
  let block = parent
  while (getComputedStyle(block).display.startsWith('inline')) block = block.parentElement
  let scroller = block
  while (scroller && !scrolls(scroller)) scroller = scroller.parentElement
  for (const box of boxes) {
    lines.push({box, text: node.data.trim().slice(0, 40), scroller})
    // What overflows inside of a box that scrolls can be reached.
    const edge = block.getBoundingClientRect()
    const inside = scroller && main.contains(scroller)
    if (!inside && (box.right > edge.right + 1 || box.left < edge.left - 1)) outside.push(node.data.trim().slice(0, 40))
  }
}
// The number of an entry is no text of the document. It lies to the left of its entry, as wide as it is written.
const pen = document.createElement('canvas').getContext('2d')
for (const each of main.querySelectorAll('ol > li')) {
  if (!each.checkVisibility()) continue
  const entry = each.getBoundingClientRect(), style = getComputedStyle(each)
  const number = `${[...each.parentElement.children].indexOf(each) + 1}. `
  pen.font = `${style.fontSize} ${style.fontFamily}`
  const left = entry.left - pen.measureText(number).width, height = parseFloat(style.lineHeight)
  const box = {left, right: entry.left, top: entry.top, bottom: entry.top + height, height}
  lines.push({box, text: number, scroller: null})
}
const over = []
lines.sort((a, b) => a.box.top - b.box.top)
for (let i = 0; i < lines.length; i++) {
  for (let k = i + 1; k < lines.length && lines[k].box.top < lines[i].box.bottom; k++) {
    const a = lines[i], b = lines[k]
    if (a.scroller !== b.scroller) continue
    const width = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left)
    const height = Math.min(a.box.bottom, b.box.bottom) - b.box.top
    // Boxes of lines are higher than their letters.
    if (width > 2 && height > 0.4 * Math.min(a.box.height, b.box.height)) over.push([a.text, b.text])
  }
}
return {count: lines.length, outside, over, width: document.documentElement.scrollWidth}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_text_lies_on_another_or_outside_its_box(visit, page, width, scheme):
    found = visit(page, width, scheme).execute_script(MEASURE)
    assert found["count"] > 30
    assert found["over"] == []
    assert found["outside"] == []
    assert found["width"] <= width


def test_an_overlap_and_an_overflow_are_found(visit, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<main><p>one line</p><p style='margin-top: -2.2em'>another</p>"
        "<p style='width: 3em; white-space: nowrap'>much too long for this</p></main>"
    )
    found = visit(page, 1280).execute_script(MEASURE)
    assert [sorted(pair) for pair in found["over"]] == [["another", "one line"]]
    assert found["outside"] == ["much too long for this"]


def test_each_figure_of_the_first_page_is_wholly_loaded_and_leads_to_its_lines(visit):
    browser = visit(SITE / "docs" / "index.html")
    figures = browser.execute_script(
        "return [...document.querySelectorAll('p > a img')].map(each => [each.naturalWidth, each.closest('a').href])"
    )
    assert len(figures) == 12
    for width, address in figures:
        assert width >= 900
        browser.get(address)
        assert browser.execute_script("return document.querySelector(location.hash) !== null"), address
