"""LaTeX: texts whose characters have no meaning there, numbers, and tables of booktabs."""

import re
import unicodedata
from collections.abc import Sequence

from seqjax.errors import Error, check_type, escape

GREEK = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ"
"""The Greek letters that LaTeX has as mathematics."""


def _command(letter: str) -> str:
    """The name of the command of a Greek letter, such as `alpha` and `Delta`."""
    name = unicodedata.name(letter).split()[-1].replace("LAMDA", "LAMBDA").lower()
    return name.capitalize() if letter.isupper() else name


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
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": "$-$",
    "∂": r"$\partial$",
    "µ": r"$\mu$",
    **{letter: rf"$\{_command(letter)}$" for letter in GREEK},
}
"""Character -> what stands for it in LaTeX. pdflatex has no Greek letters in texts."""
MATH = {"brackets": r"{}\,[{}, {}]", "pm": r"{} \pm {}"}
"""How the numbers of a mean with an interval are put together in mathematics."""


def plain(text: str) -> str:
    """A text of which no character has a meaning in LaTeX."""
    text = "".join(SIGNS.get(sign, sign) for sign in escape(text, keep="\n"))
    # LaTeX would join two dashes, quotes or commas to one character.
    return re.sub(r"[-'`,!?](?=[-'`,])", r"\g<0>{}", text)


def number(numbers: Sequence[str], interval: str, is_bold: bool) -> str:
    """A number, or a mean with its interval, as mathematics, so that its sign is a minus and not a hyphen.

    Args:
        numbers: the texts of the numbers, as `table_cell.numbers` returns them.
        interval: how the interval is shown, `"brackets"` or `"pm"`.
        is_bold: whether the first number is bold.
    """
    first, *others = map(_mathematics, numbers)
    first = rf"\mathbf{{{first}}}" if is_bold else first
    return f"${MATH[interval].format(first, *others)}$" if others else f"${first}$"


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    caption: str | None,
    label: str | None,
) -> str:
    r"""A `tabular` with the rules of booktabs; with a caption or a label it is in a `table` with `\centering`.

    Args:
        headings: the names of the columns, plain texts.
        rows: the cells, in LaTeX.
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
    head, *lines = [f"{' & '.join(cells)} \\\\\n" for cells in (map(plain, headings), *rows)]
    columns = "".join("r" if is_right else "l" for is_right in right)
    inner = (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\\midrule\n{''.join(lines)}\\bottomrule\n\\end{{tabular}}\n"
    )
    if caption is None and label is None:
        return inner
    above = "" if caption is None else f"\\caption{{{plain(caption)}}}\n"
    above += "" if label is None else f"\\label{{{label}}}\n"
    return f"\\begin{{table}}\n\\centering\n{above}{inner}\\end{{table}}\n"


def _mathematics(number: str) -> str:
    digits, _, exponent = number.replace(",", "{,}").partition("e")
    return digits if not exponent else rf"{digits} \times 10^{{{int(exponent)}}}"
