"""The consecutive parts of a dataset. Imports no jax, so that the command line can name them."""

from typing import Any

from seqjax.errors import Error

PARTS = ("train", "heldout", "rest")
"""The consecutive parts of a dataset."""


def split(source: Any, train: int | float, heldout: int | float) -> dict[str, Any]:
    """Consecutive parts of a dataset: `train`, `heldout` and the `rest`; int = so many, float = share."""
    total = len(source)
    sizes = [size if isinstance(size, int) else round(size * total) for size in (train, heldout)]
    if isinstance(train, float) and isinstance(heldout, float):
        sizes[1] = round((train + heldout) * total) - sizes[0]  # so that shares of 1 in all take no more than all
    if sizes[0] < 2 or sum(sizes) > total:
        raise Error(
            f"dataset {source.source or type(source).__name__} has {total:,} {source.unit}; "
            f"train = {train} and heldout = {heldout} take {sizes[0]:,} and {sizes[1]:,} of them, "
            "and training needs at least 2\n"
            "Use a longer dataset, or shares such as --train 0.9 --heldout 0.1"
        )
    edges = [0, sizes[0], sum(sizes), total]
    return {name: source[first:last] for name, first, last in zip(PARTS, edges, edges[1:], strict=False)}
