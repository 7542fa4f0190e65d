"""A text file of the user's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqjax import Corpus, Error, Text, register


@register("corpus", "text-file")
@dataclass(frozen=True)
class TextFile(Corpus):
    """A UTF-8 text file, character for character: line ends and unusual symbols stay as they are."""

    path: str
    """Where the file is."""
    errors: Literal["strict", "replace"] = "strict"
    """What to do with bytes that are no UTF-8: refuse the file, or read them as U+FFFD."""

    def load(self):
        """The file's text."""
        try:
            data = Path(self.path).read_bytes()
        except PermissionError as fault:
            raise Error(f"corpus text-file: {self.path} may not be read: {fault.strerror}", exit_code=6) from fault
        except (OSError, ValueError) as fault:
            reason = getattr(fault, "strerror", None) or fault
            raise Error(
                f"corpus text-file: {self.path!r} cannot be read from the folder {Path.cwd()}: {reason}\n"
                "Check the field path (--corpus.path)"
            ) from fault
        try:
            text = data.decode("utf-8", self.errors)
        except UnicodeDecodeError as fault:
            raise Error(
                f"corpus text-file: {self.path} is not UTF-8: byte 0x{data[fault.start]:02x} at offset {fault.start}\n"
                "Convert the file, or read such bytes as U+FFFD with --corpus.errors replace"
            ) from fault
        if not text:
            raise Error(f"corpus text-file: {self.path} is empty")
        return Text(text, self.path)
