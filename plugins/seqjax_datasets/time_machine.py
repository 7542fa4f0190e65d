"""The Time Machine by H. G. Wells, in the form of the textbook chapter."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqjax import Dataset, Text, register
from seqjax.data import check_file, download

URL = "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt"
SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"


@register("dataset", "time-machine")
@dataclass(frozen=True)
class TimeMachine(Dataset):
    """The Time Machine (Wells 1895): 170,580 characters, 27 tokens.

    In each line, every run of characters other than the letters A to Z becomes one space; the line is then stripped and
    lower-cased. The file is looked for at `path`, or else in the folder `$SEQJAX_DATA`, and then in the cache; if it is
    not there, it is downloaded.
    """

    cites = ("wells1895time",)

    path: str | None = None
    """Path of the file `timemachine.txt`. None: it is found or downloaded."""
    form: Literal["characters", "lines"] = "characters"
    """`characters` joins the lines without separators; `lines` keeps the line ends, which separate words."""

    def load(self):
        """The normalised text."""
        raw = self._file().read_text(encoding="utf-8")
        lines = [re.sub("[^A-Za-z]+", " ", line).strip().lower() for line in raw.splitlines()]
        return Text(("" if self.form == "characters" else "\n").join(lines), "time-machine")

    def _file(self):
        if self.path is not None:
            return check_file(Path(self.path), f"sha1:{SHA1}")
        folder = os.environ.get("SEQJAX_DATA")
        if folder and (Path(folder) / "timemachine.txt").is_file():
            return check_file(Path(folder) / "timemachine.txt", f"sha1:{SHA1}")
        return download(URL, f"sha1:{SHA1}")
