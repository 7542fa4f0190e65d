"""Text from a file of the user."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from seqjax import Dataset, Error, Text, register


@register("dataset", "text-file")
@dataclass(frozen=True)
class TextFile(Dataset):
    """A UTF-8 text file. Its characters are not changed: line ends and unusual characters stay as they are."""

    path: str
    """Path of the file."""
    errors: Literal["strict", "replace"] = "strict"
    """Whether bytes that are not UTF-8 are an error, or are read as U+FFFD."""
    documents: Literal["one", "lines", "paragraphs"] = "one"
    """The documents, at whose starts a model is reset: the whole file; each line; or each run of lines between blank
    lines. For lines and paragraphs, blank lines are left out. A document keeps all of its line ends, the last one too,
    so that a model can learn where it ends."""

    def load(self):
        """The file's text."""
        text = self._read()
        documents = [text] if self.documents == "one" else _cut(text, self.documents)
        if not any(documents):
            raise Error(f"dataset text-file: {self.path} is empty{' but for blank lines' if text else ''}")
        return Text("".join(documents), self.path, np.cumsum([0, *map(len, documents)]))

    def _read(self):
        try:
            data = Path(self.path).read_bytes()
        except PermissionError as fault:
            raise Error(f"dataset text-file: {self.path} may not be read: {fault.strerror}", exit_code=6) from fault
        except (OSError, ValueError) as fault:
            reason = getattr(fault, "strerror", None) or fault
            raise Error(
                f"dataset text-file: {self.path!r} cannot be read from the folder {Path.cwd()}: {reason}\n"
                "Check the field path (--dataset.path)"
            ) from fault
        try:
            return data.decode("utf-8", self.errors)
        except UnicodeDecodeError as fault:
            raise Error(
                f"dataset text-file: {self.path} is not UTF-8: byte 0x{data[fault.start]:02x} at offset {fault.start}\n"
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
