"""The Time Machine by H. G. Wells, as the textbook chapter reads it."""

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
    """The Time Machine (Wells 1895): 170,580 characters, 27 symbols.

    In each line, runs of anything but letters become one space; the line is stripped and lower-cased. Looked for at
    `path`, else in the folder `$SEQJAX_DATA`, else in the cache, else downloaded.
    """

    path: str | None = None
    """Where the file `timemachine.txt` is. None: found or downloaded."""
    form: Literal["characters", "lines"] = "characters"
    """`characters` joins the lines with nothing between them; `lines` keeps line ends, as words need."""

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
