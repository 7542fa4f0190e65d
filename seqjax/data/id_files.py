"""The ids of a `MappedText`, encoded once into files of the smallest integer type, which are mapped into memory."""

import contextlib
import inspect
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from seqjax.data.mapped_text import MappedText, code_points, in_threads, over_blocks
from seqjax.data.stream import Stream
from seqjax.data.tokenizer import TextCodec, Vocab
from seqjax.errors import Error
from seqjax.files import PART
from seqjax.user_cache import cache_folder, file_key, hash_of

GROUP = 2**20
"""The number of characters that one thread encodes at a time, at least, in whole documents."""


def id_stream(text: MappedText, codec: TextCodec) -> Stream:
    """The stream in which each token predicts the next one of its document, as mapped files.

    The files are made once for each text and codec, in the user's cache folder.

    Args:
        text: the text.
        codec: the fitted tokenizer. A tokenizer of characters encodes blocks of a document side by side; any other one
            encodes whole documents, which it is given as strings.

    Raises:
        Error: the files cannot be written (exit code 6).
    """
    dtype = np.min_scalar_type(max(len(codec) - 1, 0))
    base = cache_folder("texts") / f"{hash_of(text.key, _identity(codec))}-{dtype}"
    inputs, targets, bounds = (base.with_name(f"{base.name}.{end}") for end in ("inputs", "targets", "bounds.npy"))
    # The targets of one document are its ids, one step later.
    has_one = len(text.bounds) == 2
    sides = [inputs] if has_one else [inputs, targets]
    if not _are_whole(sides, dtype, bounds, len(text.bounds)):
        try:
            cache_folder("texts").mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(text, codec, dtype, sides, bounds)
        except OSError as fault:
            raise Error(
                f"the ids of a large text cannot be written to the cache folder {cache_folder('texts')}: "
                f"{fault.strerror}\nChoose another folder, such as XDG_CACHE_HOME=/another/folder on Linux",
                exit_code=6,
            ) from fault
    ends = _ends(np.load(bounds))
    ids = _mapped(inputs, dtype)
    return Stream(ids[:-1], ids[1:], ends) if has_one else Stream(ids, _mapped(targets, dtype), ends)


def _ends(bounds: np.ndarray) -> np.ndarray:
    """The bounds of the documents among the targets, from their bounds among the ids."""
    return np.cumsum(np.concatenate([[0], np.maximum(np.diff(bounds) - 1, 0)]), dtype=np.int64)


def _are_whole(sides: Sequence[Path], dtype: np.dtype, bounds: Path, num_bounds: int) -> bool:
    """Whether the files are there in their full lengths: anybody may delete or cut files of a cache."""
    try:
        kept = np.load(bounds)
        sizes = [file.stat().st_size for file in sides]
    except (OSError, ValueError, EOFError):
        return False
    if kept.shape != (num_bounds,):
        return False
    length = kept[-1] if len(sides) == 1 else _ends(kept)[-1]
    return sizes == [length * np.dtype(dtype).itemsize] * len(sides)


def _identity(codec: TextCodec) -> list[Any]:
    """What the ids of a text depend on besides the text: the codec, and how its tokenizer splits.

    Two tokenizers with the same vocabulary may split another text in different ways, and their code may change. A class
    that has no file, as in a notebook, has a new identity each time, so that no ids of older code are used.
    """
    tokenizer = getattr(codec, "tokenizer", None)
    classes = {base for part in (codec, tokenizer) if part is not None for base in type(part).__mro__[:-1]}
    try:
        code = sorted({file_key(file) for cls in classes for file in _code(inspect.getfile(cls), cls.__module__)})
    except (TypeError, OSError):
        code = [secrets.token_hex(8)]
    return [codec.to_dict(), repr(tokenizer), code]


def _code(file: str, module: str) -> set[str]:
    """The file of a class, and the files beside it from which its module imports, directly or through others."""
    folder, files, todo = Path(file).parent, {file}, [module]
    seen = set(todo)
    while todo:
        values = list(vars(sys.modules.get(todo.pop(), object)).values())
        named = [
            value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) for value in values
        ]
        for name in {name for name in named if isinstance(name, str)} - seen:
            other = getattr(sys.modules.get(name), "__file__", None)
            if other and folder in Path(other).parents:
                files.add(other)
                todo.append(name)
                seen.add(name)
    return files


def _mapped(file: Path, dtype: Any) -> np.ndarray:
    """The numbers in a file."""
    return np.memmap(file, dtype, mode="r") if file.stat().st_size else np.zeros(0, dtype)


def _write(text: MappedText, codec: TextCodec, dtype: np.dtype, sides: Sequence[Path], bounds: Path) -> None:
    """Writes the ids of one document, or the inputs and the targets of several; then where documents begin and end.

    Inputs are all ids but the last of each document, and targets all but the first. The files are renamed at the end,
    the one with the bounds last: if it exists, all files are complete.
    """
    parts = [file.with_name(f"{file.name}.{secrets.token_hex(8)}{PART}") for file in (*sides, bounds)]
    try:
        with contextlib.ExitStack() as files:
            *opened, last = [files.enter_context(open(part, "xb")) for part in parts]
            lengths = [np.zeros(1, np.int64)]
            for ids, begins, ends, counts in _encoded(text, codec):
                for file, left_out in zip(opened, (ends, begins) if len(sides) > 1 else ((),), strict=True):
                    file.write(np.delete(ids, left_out).astype(dtype) if len(left_out) else ids.astype(dtype))
                lengths.append(counts)
            np.save(last, np.cumsum(np.concatenate(lengths)))
            for each in (*opened, last):  # or a power failure could leave a renamed file without its contents
                each.flush()
                os.fsync(each.fileno())
        for part, path in zip(parts, (*sides, bounds), strict=True):
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _encoded(text: MappedText, codec: TextCodec) -> Iterator[tuple[Any, Any, Any, Any]]:
    """The ids of one block of the text after the other, and where documents begin and end in it.

    Yields:
        The ids; the positions among them at which a document begins, and at which one ends; the number of ids of each
        document in order; the first block may give the numbers of all documents.
    """
    if isinstance(codec, Vocab) and codec.is_of_characters:
        counts, at = np.diff(text.bounds), 0
        begins, ends = text.bounds[:-1][counts > 0], text.bounds[1:][counts > 0] - 1
        for ids in over_blocks(lambda block: codec.character_ids[code_points(block)], text.pieces):
            inside = [a[np.searchsorted(a, at) : np.searchsorted(a, at + len(ids))] - at for a in (begins, ends)]
            yield ids, *inside, counts
            counts, at = counts[:0], at + len(ids)
        return

    def encode(group):
        ids = [np.asarray(codec.encode(text.documents[n])) for n in group]
        return np.concatenate(ids), np.array([len(a) for a in ids], np.int64)

    for ids, counts in in_threads(encode, _groups(text.bounds)):
        bounds = np.cumsum([0, *counts])
        yield ids, bounds[:-1][counts > 0], bounds[1:][counts > 0] - 1, counts


def _groups(bounds: np.ndarray) -> list[range]:
    """The numbers of consecutive documents that have about `GROUP` characters together, or of single longer ones."""
    cuts = np.flatnonzero(np.diff(bounds[:-1] // GROUP, prepend=-1))
    return [range(first, last) for first, last in zip(cuts, [*cuts[1:], len(bounds) - 1], strict=True)]
