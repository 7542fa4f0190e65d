"""LaTeX: texts whose characters have no meaning there."""

import re

from seqjax.errors import escape

SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After the end of a row, LaTeX reads a star or a bracket as an argument of this end.
    "*": "{*}",
    "[": "{[}",
    "\n": " ",
}
"""Character -> what stands for it in LaTeX."""


def plain(text: str) -> str:
    """A text of which no character has a meaning in LaTeX."""
    text = "".join(SIGNS.get(sign, sign) for sign in escape(text, keep="\n"))
    # LaTeX would join two dashes, quotes or commas to one character.
    return re.sub(r"[-'`,!?](?=[-'`,])", r"\g<0>{}", text)
