"""Docstrings as reStructuredText.

The docstrings of seqjax are plain text: backticks mark code, lines from `>>>` to the next empty line are an example, an
indented block is an equation or code, and nothing else is markup.
"""

import re
from collections.abc import Mapping, Sequence


def to_rst(lines: Sequence[str], links: Mapping[str, str]) -> list[str]:
    """The lines of a docstring, in which examples and indented blocks are literal and no other character is markup.

    Args:
        lines: the docstring.
        links: name -> full name, of what a name in backticks is linked to.
    """
    rst: list[str] = []
    previous, block = "", None  # the last line with text; how far the current literal block is indented
    is_example = False
    for line in lines:
        indent = _indent(line)
        if line.strip() and block is not None and indent < block:
            block = None
        if line.lstrip().startswith(">>>") and block is None and not is_example:
            is_example = True
            rst += [" " * indent + ".. code-block:: pycon", ""]
        is_example = is_example and bool(line.strip())
        if is_example:
            rst.append(f"    {line}")
            continue
        if line.strip() and block is None and _begins_block(rst, previous, indent):
            block = indent
            rst += [" " * _indent(previous) + "::", ""]
        rst.append(line if block is not None else escape(line, links))
        previous = line if line.strip() else previous
    return rst


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _begins_block(before: Sequence[str], previous: str, indent: int) -> bool:
    """Whether a line begins an indented block: it is further to the right than the paragraph before it."""
    return bool(before and not before[-1].strip() and previous) and indent > _indent(previous)


def escape(text: str, links: Mapping[str, str]) -> str:
    """Text in which backticks alone are markup; the names in backticks are linked.

    Args:
        text: without line breaks.
        links: as in `to_rst`.
    """

    def markup(match: re.Match) -> str:
        if match["code"] is None:
            return f"\\{match[0]}"
        # A word that follows markup is parted from it by an escaped space, which is not shown.
        return _code(match["code"], links) + ("\\ " if match["next"] else "")

    return re.sub(r"`(?P<code>[^`]+)`(?=(?P<next>\w?))|[\\*|]|(?<=\w)_(?!\w)|(?<=^\w)\.", markup, text)


def _code(name: str, links: Mapping[str, str]) -> str:
    return f":py:obj:`{name} <{links[name]}>`" if name in links else f"``{name}``"
