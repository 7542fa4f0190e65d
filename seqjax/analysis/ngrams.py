"""Counts of n-grams: how often each run of n ids occurs in a text."""

from typing import Any

import numpy as np

from seqjax.errors import Error, is_whole

BLOCK = 1 << 16
"""Codes counted at once at least, so that they stay in the cache."""


def count_ngrams(ids: Any, order: int, size: int, bounds: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """How often each n-gram occurs; none crosses a document.

    An n-gram is one number, its ids the digits to the base `size`. Where these numbers are few they index a table, else
    they are sorted; where they do not fit in 63 bits, the leading digits are replaced by their rank, which keeps the
    order.

    Args:
        ids: int[n], from 0 to `size` - 1.
        order: n of the n-grams, at least 1.
        size: number of symbols.
        bounds: int[D + 1], where documents begin and end; None: one document.

    Returns:
        `grams` int32[M, order], the n-grams that occur, each once, in lexicographic order of their ids, and `counts`
        int64[M].

    Raises:
        Error: an id, the order or the bounds are out of range.
    """
    ids = np.asarray(ids)
    edges = np.asarray([0, ids.size] if bounds is None else bounds)
    _check(ids, order, size, edges)
    inside = inside_documents(edges, order)
    if len(ids) < order or (inside is not None and not inside.any()):
        return np.zeros((0, order), np.int32), np.zeros(0, np.int64)
    codes = size**order
    if codes <= max(BLOCK, 4 * len(ids)):
        table = _tabulate(ids, order, size, inside)
        distinct = np.flatnonzero(table)
        return _digits(distinct, order, size), table[distinct]
    return _sort(ids, order, size, inside)


def _check(ids, order, size, edges):
    if not is_whole(order) or order < 1:
        raise Error(f"order = {order!r} must be a whole number, at least 1")
    if not is_whole(size) or not 1 <= size <= 1 << 31:
        raise Error(f"size = {size!r} must be a whole number, from 1 to 2^31: the number of symbols")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise Error(f"ids must be integers, int[n]; these are {ids.dtype}{list(ids.shape)}")
    if len(ids) and (ids.min() < 0 or ids.max() >= size):
        raise Error(f"ids must be from 0 to size - 1 = {size - 1}; these are from {ids.min()} to {ids.max()}")
    ends = edges[[0, -1]].tolist() if edges.ndim == 1 and edges.size and edges.dtype.kind in "iu" else None
    if ends != [0, len(ids)] or (np.diff(edges.astype(np.int64)) < 0).any():
        raise Error(f"bounds must rise from 0 to {len(ids)}, the number of ids")


def inside_documents(edges: np.ndarray, order: int) -> np.ndarray | None:
    """bool[n - order + 1]: whether the n-gram that starts there ends in the same document; None: all do.

    Args:
        edges: int64[D + 1], where documents begin and end.
        order: n of the n-grams.
    """
    starts = max(0, edges[-1] - order + 1)
    between = (edges[1:-1, None] - np.arange(1, order)).ravel()
    between = between[(between >= 0) & (between < starts)]
    if not between.size:
        return None
    inside = np.ones(starts, bool)
    inside[between] = False
    return inside


def _tabulate(ids, order, size, inside):
    """Counts int64[size ** order] of all numbers, in blocks that stay in the cache."""
    table = np.zeros(size**order, np.int64)
    step = max(BLOCK, len(table))
    for first in range(0, len(ids) - order + 1, step):
        block = ids[first : first + step + order - 1].astype(np.int64)
        count = len(block) - order + 1
        codes = block[:count].copy()
        for n in range(1, order):
            codes *= size
            codes += block[n : n + count]
        if inside is not None:
            codes = codes[inside[first : first + count]]
        table += np.bincount(codes, minlength=len(table))
    return table


def _sort(ids, order, size, inside):
    """The n-grams and their counts by sorting."""
    count = len(ids) - order + 1
    kept = slice(None) if inside is None else inside
    ranked, codes, codes_below = [], np.zeros(count, np.int64)[kept], 1
    for n in range(order):
        if codes_below * size > 1 << 63:
            distinct, codes = np.unique(codes, return_inverse=True)
            ranked.append((n, distinct))
            codes_below = len(distinct)
        codes = codes * size + ids[n : n + count][kept]
        codes_below *= size
    codes, counts = np.unique(codes, return_counts=True)
    digits, last = [], order
    for first, distinct in reversed(ranked):
        ranks, rest = np.divmod(codes, size ** (last - first))
        digits.append(_digits(rest, last - first, size))
        codes, last = distinct[ranks], first
    digits.append(_digits(codes, last, size))
    return np.concatenate(digits[::-1], axis=1), counts.astype(np.int64)


def _digits(codes, count, size):
    """The digits of numbers below `size ** count` to the base `size`, int32[M, count], the last one last."""
    digits = np.empty((count, len(codes)), np.int32)
    if size**count <= 1 << 31:
        codes = codes.astype(np.int32)  # divided several times faster
    for n in reversed(range(count)):
        rest = codes // size  # numpy's divmod is several times slower
        digits[n] = codes - rest * size
        codes = rest
    return digits.T
