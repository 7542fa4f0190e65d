"""LaTeX: texts whose characters have no meaning there, numbers, and tables of booktabs."""

import re
import unicodedata
from collections.abc import Sequence

from seqjax.errors import Error, check_type, escape

GREEK = {
    **{letter: unicodedata.name(letter).split()[-1] for letter in "αβγδεζηθικμνξπρστυφχψωΓΔΘΞΠΣΥΦΨΩ"},
    "λ": "LAMBDA",  # Unicode calls it LAMDA
    "Λ": "LAMBDA",
}
"""Letter -> its name. pdflatex has Greek letters only in mathematics."""
MATHEMATICS = {"±": "pm", "×": "times", "→": "to", "∞": "infty", "≤": "leq", "≥": "geq", "∂": "partial"} | {
    letter: name.capitalize() if letter.isupper() else name.lower() for letter, name in GREEK.items()
}
"""Character -> the name of the command that stands for it in mathematics."""
SIGNS = (
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {sign: rf"$\{name}$" for sign, name in MATHEMATICS.items()}
    | {sign: f"${sign}$" for sign in "<>|"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "\n": " "}
    # After the end of a row, LaTeX reads a star or a bracket as an argument of this end.
    | {"*": "{*}", "[": "{[}"}
)
"""Character -> what stands for it in LaTeX."""


def plain(text: str) -> str:
    """A text of which no character has a meaning in LaTeX."""
    text = "".join(SIGNS.get(sign, sign) for sign in escape(text, keep="\n"))
    # LaTeX would join two dashes, quotes or commas to one character.
    return re.sub(r"[-'`,!?](?=[-'`,])", r"\g<0>{}", text)


def number(texts: Sequence[str], is_bold: bool) -> str:
    """A number, or a mean and its interval, as mathematics, so that its sign is a minus and not a hyphen.

    Args:
        texts: the text of the number; or of the mean and of both ends.
        is_bold: whether the first number is bold.
    """
    first, *ends = map(_mathematics, texts)
    first = rf"\mathbf{{{first}}}" if is_bold else first
    return f"${first}{rf'\,[{ends[0]}, {ends[1]}]' if ends else ''}$"


def table(rows: Sequence[Sequence[str]], right: Sequence[bool], caption: str | None, label: str | None) -> str:
    r"""A `tabular` with the rules of booktabs; with a caption or a label it is in a `table` with `\centering`.

    Args:
        rows: the headings and the rows, in LaTeX.
        right: for each column whether it is aligned to the right.
        caption: a plain text, which stands above the table; None: there is none.
        label: for `\ref`; None: there is none.

    Raises:
        Error: a caption or a label that is no text; a label that LaTeX cannot read.
    """
    for name, value in (("caption", caption), ("label", label)):
        check_type(name, value, str | None, "a text, or leave it out")
    if label is not None and not re.fullmatch(r"[\w:./+ -]+", label, re.ASCII):
        raise Error(f"label = {label!r:.80}: use letters, digits and : . / + - _, as in 'tab:losses'")
    head, *lines = [f"{' & '.join(row)} \\\\\n" for row in rows]
    columns = "".join("r" if is_right else "l" for is_right in right)
    body = f"\\toprule\n{head}\\midrule\n{''.join(lines)}\\bottomrule\n"
    tabular = f"\\begin{{tabular}}{{{columns}}}\n{body}\\end{{tabular}}\n"
    if caption is None and label is None:
        return tabular
    above = "" if caption is None else f"\\caption{{{plain(caption)}}}\n"
    above += "" if label is None else f"\\label{{{label}}}\n"
    return f"\\begin{{table}}\n\\centering\n{above}{tabular}\\end{{table}}\n"


def _mathematics(number: str) -> str:
    digits, _, exponent = number.replace(",", "{,}").partition("e")
    return digits if not exponent else rf"{digits} \times 10^{{{int(exponent)}}}"
