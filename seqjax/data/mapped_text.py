"""`MappedText`: a text in files that are mapped into memory, and never read into it as a whole."""

import collections
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqjax.data.dataset import Text
from seqjax.errors import Error
from seqjax.user_cache import file_key, hash_of, remembered

BLOCK = 2**20
"""Bytes that one thread works on at a time."""
MAPPED_BYTES = 2**26
"""The size in bytes from which the built-in datasets map a text."""


class Piece(NamedTuple):
    """Some whole documents, one after the other in one array of bytes.

    Args:
        data: uint8[n], UTF-8.
        at: int64[D + 1], where the documents begin and end among the bytes.
        bounds: int64[D + 1], the same among the characters.
    """

    data: Any
    at: Any
    bounds: Any


class MappedText(Text):
    """A text that may be larger than memory. Otherwise it behaves like the `Text` of its characters.

    Its bytes are mapped files; `text` and `documents` decode them when they are asked for.

    Args:
        pieces: the documents, in order.
        source: where they came from, for display.
        key: identifies the contents, such as their hash; the keys of parts are derived from it.
        sha256: the hash that a `Text` of the same characters and documents has; None: it is computed if it is needed.
    """

    pieces: tuple[Piece, ...]
    key: str
    _sizes: np.ndarray

    def __init__(self, pieces: Sequence[Piece], source: str, key: str, sha256: str | None = None):
        sizes = np.cumsum([0, *(piece.bounds[-1] for piece in pieces)])
        inner = [piece.bounds[:-1] + size for piece, size in zip(pieces, sizes, strict=False)]
        self._set(pieces=tuple(pieces), source=source, key=key, _sizes=sizes)
        self._set(bounds=np.concatenate([*inner, sizes[-1:]]).astype(np.int64))
        if sha256 is not None:
            self._set(sha256=sha256)  # set here, so that the cached property does not compute it

    @property
    def text(self) -> str:
        """All characters, decoded at each use: use it only for short parts."""
        return "".join(bytes(piece.data).decode("utf-8") for piece in self.pieces)

    @property
    def documents(self) -> "Documents":
        """The texts of the documents, each of which is decoded when it is asked for."""
        return Documents(self)

    def _part(self, first: int, last: int, bounds: np.ndarray) -> "MappedText":
        parts = []
        for piece, begin in zip(self.pieces, self._sizes, strict=False):
            size = piece.bounds[-1]
            left, right = (int(np.clip(at - begin, 0, size)) for at in (first, last))
            if left < right:
                at = remembered(
                    "texts",
                    hash_of(self.key, int(begin), left, right),
                    functools.partial(_bytes_of, piece, (left, right)),
                )
                parts.append(_cut(piece, left, right, *at))
        return MappedText(parts or [_cut(self.pieces[0], 0, 0, 0, 0)], self.source, f"{self.key}:{first}:{last}")

    @functools.cached_property
    def sha256(self) -> str:
        """The hash that a `Text` of the same characters and documents has."""
        digest = hashlib.sha256()
        for piece in self.pieces:
            for first in range(0, len(piece.data), BLOCK):
                digest.update(piece.data[first : first + BLOCK])
        if len(self.bounds) != 2:
            digest.update(self.bounds)
        return digest.hexdigest()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The UTF-8 text, uint8[n], copied."""
        return {"text": np.concatenate([piece.data for piece in self.pieces])}

    def character_counts(self) -> collections.Counter:
        """How often each character occurs, in order of first occurrence. All cores count."""

        def count():
            total: collections.Counter = collections.Counter()
            for counts in over_blocks(_count_block, self.pieces):
                total.update(counts)
            return list(total.items())

        return collections.Counter(dict(remembered("texts", hash_of(self.key, "characters"), count)))

    def __repr__(self) -> str:
        return f"MappedText({len(self):,} {self.unit}, source={self.source!r}, key={self.key[:8]}…)"


class Documents(Sequence):
    """The documents of a `MappedText`."""

    def __init__(self, text: MappedText):
        self.text = text
        self._first = np.cumsum([0, *(len(piece.at) - 1 for piece in text.pieces)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, n: Any) -> Any:
        if isinstance(n, slice):
            return [self[i] for i in range(*n.indices(len(self)))]
        n = range(len(self))[n]
        index = int(np.searchsorted(self._first, n, side="right")) - 1
        piece = self.text.pieces[index]
        first, last = piece.at[n - self._first[index] :][:2]
        return bytes(piece.data[first:last]).decode("utf-8")


def make_piece(data: np.ndarray, at: Any = None, name: str = "") -> Piece:
    """A piece of bytes, whose characters are counted by all cores.

    Args:
        data: uint8[n].
        at: int64[D + 1], where the documents begin and end; None: one document.
        name: what the bytes are, for messages.

    Raises:
        Error: the bytes are not UTF-8.
    """
    at = np.asarray([0, len(data)] if at is None else at, np.int64)
    edges = block_edges(data)
    blocks = list(itertools.pairwise(edges))

    def characters(block):
        """The number of characters before each document that begins in the block, and before its end."""
        first, last = block
        part = data[first:last]
        try:
            size = len(part) if _is_ascii(part) else len(str(part, "utf-8"))
        except UnicodeDecodeError as fault:
            where = first + fault.start
            raise Error(
                f"{name} is not UTF-8: byte 0x{data[where]:02x} at offset {where}\n"
                "Convert the file, or read such bytes as U+FFFD with --dataset.errors replace"
            ) from fault
        inside = at[np.searchsorted(at, first) : np.searchsorted(at, last)] - first
        if size == last - first:
            return inside, size
        before = np.cumsum(np.concatenate([[0], (part & 0xC0) != 0x80]))  # bytes that begin a character
        return before[inside], size

    counted = list(in_threads(characters, blocks))
    sizes = np.cumsum([0, *(size for _, size in counted)])
    bounds = [inside + size for (inside, _), size in zip(counted, sizes, strict=False)]
    ends = np.full(np.count_nonzero(at == len(data)), sizes[-1])  # bounds at the end lie in no block
    return Piece(data, at, np.concatenate([*bounds, ends]).astype(np.int64))


def _cut(piece: Piece, first: int, last: int, begin: int, end: int) -> Piece:
    """The part of a piece from character `first` to `last`, the bytes from `begin` to `end`."""
    inside = (piece.bounds > first) & (piece.bounds < last)
    at = np.concatenate([[begin], piece.at[inside], [end]]) - begin
    return Piece(piece.data[begin:end], at, np.concatenate([[first], piece.bounds[inside], [last]]) - first)


def is_large(*files: str | Path) -> bool:
    """Whether the built-in datasets map files of this size into memory instead of reading them."""
    return sum(map(os.path.getsize, files)) >= MAPPED_BYTES


def map_file(path: str | Path, name: str) -> MappedText:
    """The text of a UTF-8 file that is one document. It is hashed and counted once, unless the file changes.

    Args:
        path: the file.
        name: what reads it, for messages.

    Raises:
        Error: it is not UTF-8.
    """
    data = np.memmap(path, np.uint8, mode="r")

    def read():
        piece = make_piece(data, name=f"{name}: {path}")
        return {"sha256": MappedText([piece], "", "").sha256, "characters": int(piece.bounds[-1])}

    kept = remembered("texts", file_key(path), read)
    whole = [np.array([0, n], np.int64) for n in (len(data), kept["characters"])]
    return MappedText([Piece(data, *whole)], str(path), kept["sha256"], kept["sha256"])


def _bytes_of(piece: Piece, characters: Sequence[int]) -> list[int]:
    return [_byte_of(piece, character) for character in characters]


def _byte_of(piece: Piece, character: int) -> int:
    """The offset of a character among the bytes."""
    if piece.bounds[-1] == len(piece.data):  # ASCII
        return int(character)
    n = int(np.searchsorted(piece.bounds, character, side="right")) - 1
    at, left = int(piece.at[n]), int(character - piece.bounds[n])
    while left:
        part = piece.data[at : at + BLOCK]
        begins = (part & 0xC0) != 0x80
        count = int(np.count_nonzero(begins))
        if count > left:
            return at + int(np.flatnonzero(begins)[left])
        left -= count
        at += len(part)
    # The bytes that continue the last character belong to it.
    while at < len(piece.data) and piece.data[at] & 0xC0 == 0x80:
        at += 1
    return at


def block_edges(data: np.ndarray) -> list[int]:
    """Where blocks of about `BLOCK` bytes begin and end, between characters."""
    edges = [0]
    while edges[-1] < len(data):
        end = min(edges[-1] + BLOCK, len(data))
        # A character has at most 4 bytes. If none of 4 bytes begins a character, decoding reports that this is not
        # UTF-8.
        starts = [at for at in range(end, max(end - 4, edges[-1]), -1) if at == len(data) or data[at] & 0xC0 != 0x80]
        edges.append(starts[0] if starts else end)
    return edges


def over_blocks(function: Callable[[np.ndarray], Any], pieces: Sequence[Piece]) -> Iterator[Any]:
    """The results of a function of the blocks of some pieces, in order, computed by all cores."""
    for piece in pieces:
        edges = block_edges(piece.data)
        blocks = [piece.data[first:last] for first, last in itertools.pairwise(edges)]
        yield from in_threads(function, blocks)


def in_threads(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """The results of a function, in order, computed by as many threads as there are cores. Few are kept at a time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        for first in range(0, len(items), 4 * cores):
            yield from pool.map(function, items[first : first + 4 * cores])


def code_points(block: np.ndarray) -> np.ndarray:
    """The characters of UTF-8 bytes as numbers, uint8[n] or uint32[n]."""
    if _is_ascii(block):
        return block
    return np.frombuffer(str(block, "utf-8").encode("utf-32-le"), np.uint32)


def _is_ascii(block: np.ndarray) -> bool:
    return not len(block) or int(block.max()) < 128


def _count_block(block: np.ndarray) -> collections.Counter[str]:
    """The counter of the characters of a block, in order of first occurrence."""
    points = code_points(block)
    counts = np.bincount(points)
    (present,) = np.nonzero(counts)
    text = str(block, "utf-8")
    ordered = sorted(map(chr, present.tolist()), key=text.find)
    return collections.Counter({c: int(counts[ord(c)]) for c in ordered})
