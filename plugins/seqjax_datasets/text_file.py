"""Text from files of the user."""

import glob
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from seqjax import Dataset, Error, Text, register
from seqjax.data import is_large, map_file, read_file


@register("dataset", "text-file")
@dataclass(frozen=True)
class TextFile(Dataset):
    """UTF-8 text files: one file, or all files of a folder or of a pattern. Their characters are not changed.

    Line ends and unusual characters stay as they are. Each file is a document, at whose start a model is reset. The
    files are in the order of their paths.
    """

    also_called = ("text", "txt", "file")

    path: str
    """Path of a file; of a folder, whose files `*.txt` are read, those in inner folders too; or a pattern such as
    `books/*.md`."""
    errors: Literal["strict", "replace"] = "strict"
    """Whether bytes that are not UTF-8 are an error, or are read as U+FFFD."""
    documents: Literal["one", "lines", "paragraphs"] = "one"
    """The documents of a file: the whole file; each line; or each run of lines between blank lines. For lines and
    paragraphs, blank lines are left out. A document keeps all of its line ends, the last one too, so that a model can
    learn where it ends."""

    def load(self):
        """The text of all files. A large file that is one document is mapped into memory instead of being read."""
        path = Path(self.path)
        if self.documents == "one" and self.errors == "strict" and path.is_file() and is_large(path):
            return map_file(path, "dataset text-file")
        texts = [self._read(file) for file in self._files()]
        documents = (
            texts if self.documents == "one" else [part for text in texts for part in _cut(text, self.documents)]
        )
        if not any(documents):
            raise Error(f"dataset text-file: {self.path} is empty{' but for blank lines' if any(texts) else ''}")
        return Text("".join(documents), self.path, np.cumsum([0, *map(len, documents)]))

    def _files(self):
        """The paths of the files."""
        path = Path(self.path)
        # A file whose name looks like a pattern is read as a file.
        if path.is_dir():
            files = sorted(file for file in path.rglob("*.txt") if file.is_file())
        elif glob.has_magic(self.path) and not path.exists():
            files = sorted(file for file in map(Path, glob.glob(self.path, recursive=True)) if file.is_file())
        else:
            return [path]
        if not files:
            where = "no file *.txt is in this folder" if path.is_dir() else "no file has a path of this form"
            raise Error(
                f"dataset text-file: {self.path}: {where}, seen from the folder {Path.cwd()}\n"
                "Name a file, a folder, or a pattern in quotes: --dataset.path 'books/*.md'"
            )
        return files

    def _read(self, file):
        data = read_file(file, "text-file")
        try:
            return data.decode("utf-8", self.errors)
        except UnicodeDecodeError as fault:
            raise Error(
                f"dataset text-file: {file} is not UTF-8: byte 0x{data[fault.start]:02x} at offset {fault.start}\n"
                "Convert the file, or read such bytes as U+FFFD with --dataset.errors replace"
            ) from fault


def _cut(text, into):
    """The lines or the paragraphs of a text, with their line ends and without blank lines."""
    # A line ends after \n, or after a \r that no \n follows.
    lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)
    if into == "lines":
        return [line for line in lines if line.strip()]
    runs = itertools.groupby(lines, key=lambda line: bool(line.strip()))
    return ["".join(run) for filled, run in runs if filled]
