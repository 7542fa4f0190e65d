"""Equations as MathML, which browsers show without a script or a network."""

import html
import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

REWRITTEN = {r"\\dots\b": r"\\ldots", r"(\\[dt]?frac)\s*(\d)\s*(\d)": r"\1{\2}{\3}"}
"""What docutils does not read as TeX does -> what it reads. It takes the 12 of `frac12` for one number."""

ACCENT = re.compile(
    r'<munderover>\s*(<mi>\w</mi>)(.*?)(<mo stretchy="false">[^<]</mo>)\s*</munderover>', flags=re.DOTALL
)
"""A letter with an index and an accent, as docutils writes it: with the index below the letter."""


def setup(app):
    """Registers the renderer."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(self, node):
    """Writes an equation within a line."""
    self.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def block(self, node):
    """Writes an equation in a line of its own, with its number if it has a label."""
    number = f'<span class="eqno">({get_node_equation_number(self, node)})</span>' if node["number"] else ""
    equation = mathml(node, as_block=True)
    self.body.append(f"{self.starttag(node, 'div', CLASS='equation')}{equation}{number}</div>\n")
    raise nodes.SkipNode


def mathml(node, as_block):
    """The MathML of an equation. What cannot be read is reported as a warning, and shown as it was written."""
    tex = node.astext()
    for pattern, replacement in REWRITTEN.items():
        tex = re.sub(pattern, replacement, tex)
    try:
        return ACCENT.sub(r"<msub><mover>\1\3</mover>\2</msub>", tex2mathml(tex, as_block=as_block))
    except MathError as fault:
        logging.getLogger(__name__).warning("equation %s: %s", tex, fault, location=node)
        return f"<code>{html.escape(tex)}</code>"
