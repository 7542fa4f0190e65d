"""The consecutive parts of a dataset. Imports no jax, so that the command line can name them."""

import bisect
from collections.abc import Sequence
from typing import Any

from seqjax.errors import Error

PARTS = ("train", "heldout", "rest")
"""The names of the parts, in order."""


def split(source: Any, train: int | float, heldout: int | float) -> dict[str, Any]:
    """Cuts a dataset into consecutive parts: `train`, `heldout` and the `rest`.

    A size is a number of characters or time steps if it is an int, and a share of the dataset if it is a float. A share
    is rounded to the nearest whole number. The sum of two shares is rounded too, so that shares which sum to 1 take
    exactly the whole dataset.

    A dataset of one document is cut at these sizes. If there are several documents, none of them is cut: each edge
    between two parts moves to the nearest bound of a document, and to the earlier one if two are equally near.

    Args:
        source: the dataset.
        train: the size of the first part.
        heldout: the size of the second part; 0: that part is empty.

    Returns:
        The parts by name.

    Raises:
        Error: the sizes exceed the dataset; fewer than 2 characters or time steps are left for training; a part that
            was asked for has no document.
    """
    total = len(source)
    sizes = [size if isinstance(size, int) else round(size * total) for size in (train, heldout)]
    if isinstance(train, float) and isinstance(heldout, float):
        sizes[1] = round((train + heldout) * total) - sizes[0]
    name = f"dataset {source.source or type(source).__name__}"
    if sizes[0] < 2 or sum(sizes) > total:
        raise Error(
            f"{name} has {total:,} {source.unit}; train = {train} and heldout = {heldout} take {sizes[0]:,} and "
            f"{sizes[1]:,} of them, and training needs at least 2\n"
            "Use a longer dataset, or shares such as --train 0.9 --heldout 0.1"
        )
    asked = [0, sizes[0], sum(sizes), total]
    cuts = _move_to_bounds(asked, source.bounds)
    for part, first, last, size in zip(PARTS, cuts, cuts[1:], sizes, strict=False):
        if size > 0 and first == last:
            raise Error(
                f"{name}: no document is left for {part}, since documents are not cut: train = {train} and heldout = "
                f"{heldout} end at {asked[1]:,} and {asked[2]:,} of {total:,} {source.unit}, and the nearest bounds of "
                f"documents are {cuts[1]:,} and {cuts[2]:,}\n"
                f"Use other sizes, such as {_sizes(sizes, source.bounds)}, or a dataset of more documents"
            )
    return {part: source[first:last] for part, first, last in zip(PARTS, cuts, cuts[1:], strict=False)}


def _sizes(asked: Sequence[int], bounds: Any) -> str:
    """Flags with the nearest sizes that end at a bound: round shares if there are such, else counts."""
    total = int(bounds[-1])
    edge = min((bound for bound in bounds.tolist() if 0 < bound < total), key=lambda bound: abs(bound - asked[0]))
    edge = max(edge, 2)  # the least size of the training part
    train, heldout = edge, total - edge
    for digits in (2, 1):
        share = round(edge / total, digits)
        size = round(share * total)
        if size >= 2 and _move_to_bounds([size], bounds)[0] == edge:
            train, heldout = share, round(1 - share, digits)
    return f"--train {train}" + (f" --heldout {heldout}" if asked[1] else "")


def _move_to_bounds(cuts: list[int], bounds: Any) -> list[int]:
    """The cuts, each of which is moved to the nearest bound; unchanged if only one document is not empty."""
    ends = sorted(set(bounds.tolist()))
    if len(ends) <= 2:
        return cuts
    nearest = []
    for cut in cuts:
        above = bisect.bisect_left(ends, cut)
        # `min` returns the first of two equal distances, which is the earlier bound.
        nearest.append(min(ends[max(above - 1, 0) : above + 1], key=lambda bound: abs(bound - cut)))
    return nearest
