"""Counts of n-grams: how often each run of n ids occurs in a text."""

from typing import Any

import numpy as np

from seqjax.errors import Error, check_whole, is_whole

BLOCK = 1 << 16
"""The least number of codes that are counted in one block. This many fit in a cache of the CPU."""


def count_ngrams(ids: Any, order: int, size: int, bounds: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """How often each n-gram occurs. No n-gram crosses documents.

    An n-gram is coded as one number, whose digits to the base `size` are its ids. If there are few possible codes, they
    are counted in a table; otherwise they are sorted.

    Args:
        ids: int[m], from 0 to `size` - 1.
        order: n, at least 1.
        size: the number of different tokens.
        bounds: int[D + 1], where documents begin and end; None: one document.

    Returns:
        `grams` int32[M, order], the n-grams that occur, each once, in lexicographic order of their ids; and `counts`
        int64[M].

    Raises:
        Error: an id, the order or the bounds are out of range.
    """
    ids, bounds = _check(ids, order, size, bounds)
    inside = _inside_documents(bounds, order)
    if size**order <= max(BLOCK, 4 * len(ids)):
        table = _tabulate(ids, order, size, inside)
        codes = np.flatnonzero(table)
        return _digits(codes, order, size), table[codes]
    codes, ranked = _encode(ids, order, size, inside)
    codes, counts = np.unique(codes, return_counts=True)
    return _decode(codes, ranked, order, size), counts.astype(np.int64)


def number_ngrams(ids: Any, order: int, size: int, bounds: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Where each n-gram of a text starts, and a number for it. Equal n-grams have equal numbers.

    The arguments and errors are those of `count_ngrams`.

    Returns:
        `starts` int64[k], rising, and `numbers` int64[k].
    """
    ids, bounds = _check(ids, order, size, bounds)
    inside = _inside_documents(bounds, order)
    numbers, _ = _encode(ids, order, size, inside)
    starts = np.arange(len(numbers)) if inside is None else np.flatnonzero(inside)
    return starts, numbers


def _check(ids, order, size, bounds):
    """The ids and the bounds as arrays."""
    ids = np.asarray(ids)
    check_whole(order=(order, 1))
    if not is_whole(size) or not 1 <= size <= 1 << 31:
        raise Error(f"size = {size!r} must be a whole number, from 1 to 2^31: the number of different tokens")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise Error(f"ids must be integers, int[n]; these are {ids.dtype}{list(ids.shape)}")
    if len(ids) and (ids.min() < 0 or ids.max() >= size):
        raise Error(f"ids must be from 0 to size - 1 = {size - 1}; these are from {ids.min()} to {ids.max()}")
    bounds = np.asarray([0, ids.size] if bounds is None else bounds)
    ends = bounds[[0, -1]].tolist() if bounds.ndim == 1 and bounds.size and bounds.dtype.kind in "iu" else None
    if ends != [0, len(ids)] or (np.diff(bounds.astype(np.int64)) < 0).any():
        raise Error(f"bounds must rise from 0 to {len(ids)}, the number of ids")
    return ids, bounds


def _inside_documents(bounds, order):
    """bool[m - order + 1]: whether the n-gram that starts there ends in the same document; None: all do."""
    starts = max(0, bounds[-1] - order + 1)
    # An n-gram crosses the bound b if it starts at b - order + 1, ..., b - 1.
    crossing = (bounds[1:-1, None] - np.arange(1, order)).ravel()
    crossing = crossing[(crossing >= 0) & (crossing < starts)]
    if not crossing.size:
        return None
    inside = np.ones(starts, bool)
    inside[crossing] = False
    return inside


def _tabulate(ids, order, size, inside):
    """How often each code occurs, int64[size ** order]. The text is read in blocks that stay in the cache."""
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


def _encode(ids, order, size, inside):
    """The codes of the n-grams, int64 below 2^63, and what `_decode` needs.

    Where the code of a prefix times `size` would exceed 2^63, the prefix's code is replaced by its rank among all
    prefixes, which keeps the order. `ranked` has the length of each such prefix and the codes that the ranks stand for.
    """
    count = max(0, len(ids) - order + 1)
    kept = slice(None) if inside is None else inside
    ranked, codes, codes_below = [], np.zeros(count, np.int64)[kept], 1
    for n in range(order):
        if codes_below * size > 1 << 63:
            distinct, codes = np.unique(codes, return_inverse=True)
            ranked.append((n, distinct))
            codes_below = max(1, len(distinct))
        codes = codes * size + ids[n : n + count][kept]
        codes_below *= size
    return codes, ranked


def _decode(codes, ranked, order, size):
    """The n-grams int32[M, order] of codes; the inverse of `_encode`."""
    digits, last = [], order
    for first, distinct in reversed(ranked):
        ranks, rest = np.divmod(codes, size ** (last - first))
        digits.append(_digits(rest, last - first, size))
        codes, last = distinct[ranks], first
    digits.append(_digits(codes, last, size))
    return np.concatenate(digits[::-1], axis=1)


def _digits(codes, count, size):
    """The digits of numbers below `size ** count` to the base `size`, int32[M, count], the last one last."""
    digits = np.empty((count, len(codes)), np.int32)
    if size**count <= 1 << 31:
        codes = codes.astype(np.int32)  # int32 is divided several times faster
    for n in reversed(range(count)):
        rest = codes // size  # numpy's divmod is several times slower
        digits[n] = codes - rest * size
        codes = rest
    return digits.T
