"""The site in a browser, at two widths and in both colour schemes: no text lies on another one, or outside its box.

`make browser` builds the site first.
"""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium.webdriver.support.ui import WebDriverWait
from support.gallery import ORDER

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SITE.is_dir(), reason="there is no site; `make browser` builds it"),
]
GUIDES = ("index", "gallery", "chapter", "gradients", "plugins", "online", "referee", "referee/report")
COURSE = ("course/8-7-truncation", "course/8-8-elementwise", "course/8-9-online")
PAGES = [*(SITE / "docs" / f"{name}.html" for name in (*GUIDES, *COURSE)), SITE / "README.html"]
MEASURE = """
const main = document.querySelector('[role=main]') || document.querySelector('main')
const scrolls = each => ['auto', 'scroll'].includes(getComputedStyle(each).overflowX)
// A DOMRect cannot be changed, and its copy by {...box} would be empty.
const copy = ({left, right, top, bottom}) => ({left, right, top, bottom})
const boxes = [], outside = []

// Adds what is seen of a box, and notes what lies outside of its block where nothing scrolls.
function add(box, text, element, number = false) {
  let block = element
  while (getComputedStyle(block).display.startsWith('inline')) block = block.parentElement
  let scroller = block
  while (scroller !== main && !scrolls(scroller)) scroller = scroller.parentElement
  const edge = block.getBoundingClientRect(), seen = copy(box)
  if (scroller !== main) {
    const window = scroller.getBoundingClientRect()
    seen.left = Math.max(box.left, window.left)
    seen.right = Math.min(box.right, window.right)
    seen.top = Math.max(box.top, window.top)
    seen.bottom = Math.min(box.bottom, window.bottom)
  } else if (!number && (box.right > edge.right + 1 || box.left < edge.left - 1)) outside.push(text)
  if (seen.right - seen.left > 1 && seen.bottom > seen.top) boxes.push({...seen, text})
}

const walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT)
for (let node; (node = walker.nextNode());) {
  const parent = node.parentElement
  // An equation is one box, whose parts lie on each other on purpose. A button for copying lies on its code.
  if (!node.data.trim() || parent.closest('math, button, script, style, svg') || !parent.checkVisibility()) continue
  const range = document.createRange()
  range.selectNodeContents(node)
  for (const box of range.getClientRects()) add(box, node.data.trim().slice(0, 40), parent)
}
for (const each of main.querySelectorAll('img, math[display=block]')) {
  if (each.checkVisibility()) add(each.getBoundingClientRect(), `<${each.localName}>`, each.parentElement)
}
// The number of an entry is no text of the document. It lies to the left of its entry, as wide as it is written.
const pen = document.createElement('canvas').getContext('2d')
for (const each of main.querySelectorAll('ol > li')) {
  if (!each.checkVisibility()) continue
  const entry = each.getBoundingClientRect(), style = getComputedStyle(each)
  const number = `${[...each.parentElement.children].indexOf(each) + 1}. `
  pen.font = `${style.fontSize} ${style.fontFamily}`
  const left = entry.left - pen.measureText(number).width
  const height = parseFloat(style.lineHeight) || 1.2 * parseFloat(style.fontSize)
  add({left, right: entry.left, top: entry.top, bottom: entry.top + height}, number, each, true)
}
const over = []
boxes.sort((a, b) => a.top - b.top)
for (let i = 0; i < boxes.length; i++) {
  for (let k = i + 1; k < boxes.length && boxes[k].top < boxes[i].bottom; k++) {
    const a = boxes[i], b = boxes[k]
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left)
    const height = Math.min(a.bottom, b.bottom) - b.top
    // Boxes of lines are higher than their letters.
    if (width > 2 && height > 0.4 * Math.min(a.bottom - a.top, b.bottom - b.top)) over.push([a.text, b.text])
  }
}
// The whole page should not scroll sideways, in the window or in a box that holds all of the text.
const wide = []
for (let each = main; each; each = each.parentElement) {
  const holds = each === document.documentElement || getComputedStyle(each).overflowX !== 'visible'
  if (holds && each.scrollWidth > each.clientWidth + 1) wide.push(each.tagName)
}
return {count: boxes.length, outside, over, wide}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_text_lies_on_another_or_outside_its_box(visit, page, width, scheme):
    found = visit(page, width, scheme).execute_script(MEASURE)
    assert found["count"] > 30
    assert found["over"] == []
    assert found["outside"] == []
    assert found["wide"] == []


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("<p>one line</p><p style='margin-top: -2.2em'>another</p>", "over", {"one line", "another"}),
        ("<p>a line</p><pre style='margin-top: -2.6em; overflow: auto'>code</pre>", "over", {"a line", "code"}),
        ("<p>a line</p><img width=90 height=90 style='display: block; margin-top: -2em'>", "over", {"a line", "<img>"}),
        ("<p style='position: absolute; left: 2em; margin: 0'>text</p><ol><li>entry</ol>", "over", {"text", "1."}),
        ("<p style='width: 3em; white-space: nowrap'>much too long</p>", "outside", {"much too long"}),
        ("<p style='width: 3em; overflow: hidden; white-space: nowrap'>cut off</p>", "outside", {"cut off"}),
        ("<table><tr>" + "<td>a_long_name" * 30 + "</table>", "wide", {"HTML"}),
    ],
)
def test_what_lies_wrong_is_found(visit, tmp_path, body, kind, expected):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><meta name=viewport content='width=device-width'><main>{body}</main>")
    found = visit(page, 390).execute_script(MEASURE)[kind]
    named = {name.strip() for item in found for name in (item if kind == "over" else [item])}
    assert expected <= named


def test_each_figure_of_the_first_page_is_wholly_loaded_and_leads_to_its_lines(visit):
    browser = visit(SITE / "docs" / "index.html")
    figures = browser.execute_script(
        "return [...document.querySelectorAll('p > a img')].map(each => [each.naturalWidth, each.closest('a').href])"
    )
    assert len(figures) == len(ORDER)
    for width, address in figures:
        assert width >= 900
        browser.get(address)
        assert browser.execute_script("return document.querySelector(location.hash) !== null"), address


@pytest.fixture
def address():
    """The address of the site on a local server: a browser lets no script of a page in a file read other files."""
    handler = partial(QuietHandler, directory=SITE)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, and prints nothing. The site has no icon, for which browsers ask."""

    def do_GET(self):
        if self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


def test_the_search_finds_a_function_of_the_kernel(visit, chromium, address):
    """The results are those of JavaScript, which reads the index of the site."""
    chromium.get(f"{address}/search.html?q=while_loop")
    find = lambda browser: browser.find_elements("css selector", "#search-results li a[href*='while_loop']")
    found = WebDriverWait(chromium, 20).until(find)  # the results are added one by one
    chromium.get(found[0].get_attribute("href"))
    name = chromium.execute_script("return document.getElementById(location.hash.slice(1)).innerText")
    assert name.startswith("seqjax.while_loop(")
