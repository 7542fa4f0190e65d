"""The tracker my-tracker."""

import csv
from dataclasses import dataclass
from typing import Literal

import seqjax
from seqjax.runs import Session


@seqjax.register("tracker", "my-tracker")
@dataclass(frozen=True)
class MyTracker(seqjax.Tracker):
    """Writes my-tracker.csv into the folder of each run, with a line for each epoch and column."""

    delimiter: Literal[",", ";", "\t"] = ","
    """What stands between two values of a line."""

    def open(self, run, config, epochs):
        """A session, which adds lines to the file of the run."""
        return MyTrackerSession(run / "my-tracker.csv", self.delimiter)


class MyTrackerSession(Session):
    """A session that writes lines; of two lines for the same epoch and column, the later one counts."""

    def __init__(self, path, delimiter):
        self.file = path.open("a", encoding="utf-8", newline="")
        self.writer = csv.writer(self.file, delimiter=delimiter)
        if path.stat().st_size == 0:
            self.writer.writerow(["epoch", "column", "value"])

    def row(self, epoch, values):
        """Writes a line for each column."""
        self.writer.writerows([epoch, column, value] for column, value in values.items())
        self.file.flush()  # a run that is killed keeps its lines

    def text(self, name, text, epoch):
        """Does nothing, since the folder of the run has the texts."""

    def figure(self, name, file, epoch):
        """Does nothing, since the folder of the run has the figures."""

    def close(self):
        """Closes the file."""
        self.file.close()
