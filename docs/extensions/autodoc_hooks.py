"""Writes the reference, and has autodoc read the docstrings as plain text."""

import inspect
import re
from dataclasses import MISSING, is_dataclass
from pathlib import Path

import reference
from docstrings import to_rst
from sphinx.ext.napoleon import GoogleDocstring

from seqjax.plugin.base import Plugin, fields_of

PAGES = Path(__file__).parents[1] / "reference"


def setup(app):
    """Writes the reference before Sphinx collects the documents."""
    reference.write(PAGES)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)  # before napoleon, which makes markup
    app.connect("autodoc-process-docstring", mend_returns, priority=600)  # after napoleon
    app.connect("autodoc-process-signature", sign_plugin)
    app.connect("autodoc-skip-member", skip_field)
    app.connect("html-page-context", drop_back_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read_docstring(app, what, name, obj, options, lines):
    """Makes the equations of a docstring literal, and its other characters plain."""
    lines[:] = to_rst(lines, reference.links())
    if what == "property":  # napoleon reads the sections of a method alone
        lines[:] = GoogleDocstring(lines, app.config, app, "method", name, obj, options).lines()
    if what in ("attribute", "property"):
        # Napoleon takes the words before a colon in the first line of these for a type, so it is given a comment.
        lines[:0] = ["..", ""]


def mend_returns(app, what, name, obj, options, lines):
    """Napoleon takes the words before a colon in `Returns` for a type; they are a part of the sentence."""
    lines[:] = [re.sub(r"^:returns: \*(.*?)\* -- ", r":returns: \1: ", line) for line in lines]


def sign_plugin(app, what, name, obj, options, signature, returned):
    """The signature of a plugin without types. The list of its fields has them, with their ranges."""
    if not (inspect.isclass(obj) and issubclass(obj, Plugin)):
        return None
    fields = fields_of(obj).values() if is_dataclass(obj) else ()
    values = {field.name: field.make_default() for field in fields}
    shown = [name if value is MISSING else f"{name}={value!r}" for name, value in values.items()]
    return f"({', '.join(shown)})" if shown else "", None


def skip_field(app, what, name, obj, skipped, options):
    """Skips the fields of a NamedTuple, which the docstring of the class documents."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def drop_back_links(app, pagename, templatename, context, doctree):
    """Drops the links from the source of a module to the reference, as if one page had all of its names."""
    if pagename.startswith("_modules/"):
        context["body"] = re.sub(r'<a class="viewcode-back".*?</a>', "", context["body"])
