"""A table as aligned lines of text, which fit a terminal."""

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len, chop_cells

GAP = "  "
"""What stands between two columns."""
LEAST = 16
"""The width in characters to which a column of texts is narrowed before other columns are left out."""


def lines_of(
    headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], width: int | None
) -> tuple[list[str], list[str]]:
    """The lines of a table, and the columns that have no room.

    In a table that is too wide, columns of texts are narrowed, and their texts go on in the next line. If that is not
    enough, the widest columns are left out, so that these are as few as possible; the first column always stays.

    Args:
        headings: the names of the columns, without control characters.
        rows: the texts of the cells, without control characters.
        right: for each column whether it holds numbers, which are aligned to the right and never broken.
        width: the characters that a line may have, in which some letters count as two; None: any number.

    Returns:
        The lines, and the names of the columns that are left out.
    """
    lines = [headings, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    kept = list(range(len(headings)))
    if width is not None:
        least = [own if is_right else min(own, LEAST) for own, is_right in zip(widths, right, strict=True)]
        while len(kept) > 1 and _total(least, kept) > width:
            kept.remove(max(kept[1:], key=lambda n: (least[n], n)))
        while _total(widths, kept) > width and (narrower := [n for n in kept if widths[n] > least[n]]):
            widths[max(narrower, key=lambda n: widths[n])] -= 1
        if _total(widths, kept) > width:  # the first column alone
            widths[0] = max(width, 2)  # the width of the widest letter
    shown = [line for cells in lines for line in _lines_of_row(cells, kept, widths, right)]
    return shown, [name for n, name in enumerate(headings) if n not in kept]


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    """The width of a line of some columns."""
    return sum(widths[n] for n in kept) + len(GAP) * (len(kept) - 1)


def _lines_of_row(cells: Sequence[str], kept: Sequence[int], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """A row, in as many lines as its longest cell has."""
    parts_of = [broken(cells[n], widths[n]) for n in kept]
    return [
        GAP.join(
            _padded(parts[line] if line < len(parts) else "", widths[n], right[n])
            for n, parts in zip(kept, parts_of, strict=True)
        ).rstrip()
        for line in range(max(map(len, parts_of), default=1))
    ]


def broken(text: str, width: int) -> list[str]:
    """The lines of a text, which is broken at spaces where possible, and anywhere if its letters are wide."""
    if cell_len(text) <= width:
        return [text]
    if cell_len(text) > len(text):
        return chop_cells(text, width)
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space
