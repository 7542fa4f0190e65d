"""Markdown as a part of a page."""

import re
from collections.abc import Mapping

from seqjax.report.page.template import image_source, scrolling


def html_of(text: str, images: Mapping[str, bytes] = {}) -> str:
    """Markdown as HTML, with tables that scroll. HTML in the text is shown as text, except <br> in a cell of a table.

    Args:
        text: the Markdown.
        images: the PNG files by the names under which the text refers to them; the page contains them.
    """
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text).replace("&lt;br&gt;", "<br>")
    for name, data in images.items():
        body = body.replace(f'src="{name}"', f'src="{image_source(data)}"')
    return re.sub("<table>.*?</table>", _finish_table, body, flags=re.S)


def _finish_table(table: re.Match[str]) -> str:
    """A table of HTML in a box that scrolls, without styles, which the policy of the page forbids.

    If it is one of results, whose last column is "met", each "no" in this column gets a colour.
    """
    body = table[0].replace(' style="text-align:right"', ' class="number"')
    if "<th>met</th>\n</tr>" in body:
        body = body.replace("<td>no</td>\n</tr>", '<td class="no">no</td>\n</tr>')
    return scrolling(body, "table")
