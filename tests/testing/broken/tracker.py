"""Trackers that are wrong. `rejected_by` names the check that must find it."""

import json
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import seqjax
from seqjax.runs import Session


class Ignores(Session):
    """A correct session that keeps nothing, from which the others are derived."""

    def row(self, epoch, values):
        pass

    def text(self, name, text, epoch):
        pass

    def figure(self, name, file, epoch):
        pass

    def close(self):
        pass


@seqjax.register("tracker", "opens-nothing")
@dataclass(frozen=True)
class OpensNothing(seqjax.Tracker):
    """Its `open` returns None."""

    rejected_by: ClassVar = {"session"}

    def open(self, run, config, epochs):
        pass


@seqjax.register("tracker", "takes-no-figure")
@dataclass(frozen=True)
class TakesNoFigure(seqjax.Tracker):
    """Its session has no method `figure`."""

    rejected_by: ClassVar = {"session"}

    def open(self, run, config, epochs):
        class Incomplete(Ignores):
            figure = Session.figure

        return Incomplete()


@seqjax.register("tracker", "decodes-the-figure")
@dataclass(frozen=True)
class DecodesTheFigure(seqjax.Tracker):
    """It reads a PNG file as text."""

    rejected_by: ClassVar = {"session"}

    def open(self, run, config, epochs):
        class Decodes(Ignores):
            def figure(self, name, file, epoch):
                file.read_text("utf-8")

        return Decodes()


@seqjax.register("tracker", "json-without-infinity")
@dataclass(frozen=True)
class JSONWithoutInfinity(seqjax.Tracker):
    """It cannot send an infinite perplexity."""

    rejected_by: ClassVar = {"unusual values", "arguments stay as they are"}

    def open(self, run, config, epochs):
        class Strict(Ignores):
            def row(self, epoch, values):
                json.dumps(values, allow_nan=False)

        return Strict()


@seqjax.register("tracker", "first-line-of-a-text")
@dataclass(frozen=True)
class FirstLineOfAText(seqjax.Tracker):
    """It takes no empty text."""

    rejected_by: ClassVar = {"unusual values"}

    def open(self, run, config, epochs):
        class FirstLine(Ignores):
            def text(self, name, text, epoch):
                return text.splitlines()[0]

        return FirstLine()


@seqjax.register("tracker", "columns-of-the-first-row")
@dataclass(frozen=True)
class ColumnsOfTheFirstRow(seqjax.Tracker):
    """It writes the columns of the first row when it is closed, of which there may be none."""

    rejected_by: ClassVar = {"no epochs"}

    def open(self, run, config, epochs):
        class Collects(Ignores):
            def __init__(self):
                self.rows = []

            def row(self, epoch, values):
                self.rows.append(dict(values))

            def close(self):
                return list(self.rows[0])

        return Collects()


@seqjax.register("tracker", "new-file-for-each-session")
@dataclass(frozen=True)
class NewFileForEachSession(seqjax.Tracker):
    """It cannot open a second session of a run."""

    rejected_by: ClassVar = {"epochs come again", "another process"}

    def open(self, run, config, epochs):
        (run / "rows.txt").touch(exist_ok=False)
        return Ignores()


@seqjax.register("tracker", "epochs-must-rise")
@dataclass(frozen=True)
class EpochsMustRise(seqjax.Tracker):
    """It refuses an epoch that was sent before."""

    rejected_by: ClassVar = {"epochs come again", "another process"}

    def open(self, run, config, epochs):
        class Rises(Ignores):
            def row(self, epoch, values):
                last = run / "last.txt"
                assert not last.exists() or int(last.read_text()) < epoch
                last.write_text(str(epoch))

        return Rises()


@seqjax.register("tracker", "one-session-at-a-time")
@dataclass(frozen=True)
class OneSessionAtATime(seqjax.Tracker):
    """It keeps the session that is open in its module."""

    rejected_by: ClassVar = {"runs side by side"}
    opened: ClassVar = []

    def open(self, run, config, epochs):
        class Alone(Ignores):
            def row(self, epoch, values):
                assert OneSessionAtATime.opened[-1] is self

            def close(self):
                OneSessionAtATime.opened.remove(self)

        OneSessionAtATime.opened.append(Alone())
        return OneSessionAtATime.opened[-1]


@seqjax.register("tracker", "waits-to-be-closed")
@dataclass(frozen=True)
class WaitsToBeClosed(seqjax.Tracker):
    """It marks a run as open in its folder, and refuses it until it is closed."""

    rejected_by: ClassVar = {"another process"}

    def open(self, run, config, epochs):
        class Marks(Ignores):
            def close(self):
                (run / "is-open").unlink()

        (run / "is-open").touch(exist_ok=False)
        return Marks()


@seqjax.register("tracker", "takes-values-out")
@dataclass(frozen=True)
class TakesValuesOut(seqjax.Tracker):
    """It takes what it has sent out of the row."""

    rejected_by: ClassVar = {"arguments stay as they are"}

    def open(self, run, config, epochs):
        class Takes(Ignores):
            def row(self, epoch, values):
                values.popitem()

        return Takes()


@seqjax.register("tracker", "adds-to-the-config")
@dataclass(frozen=True)
class AddsToTheConfig(seqjax.Tracker):
    """It adds the name of the machine to the config that it is given."""

    rejected_by: ClassVar = {"arguments stay as they are"}

    def open(self, run, config, epochs):
        config["machine"] = socket.gethostname()
        return Ignores()


@seqjax.register("tracker", "appends-to-the-metrics")
@dataclass(frozen=True)
class AppendsToTheMetrics(seqjax.Tracker):
    """It writes into a file of the run."""

    rejected_by: ClassVar = {"files of the run"}

    def open(self, run, config, epochs):
        class Appends(Ignores):
            def row(self, epoch, values):
                with (run / "metrics.jsonl").open("a") as file:
                    file.write(f"{epoch}\n")

        return Appends()


@seqjax.register("tracker", "a-name-of-seqjax")
@dataclass(frozen=True)
class ANameOfSeqjax(seqjax.Tracker):
    """Its folder is that of the checkpoints."""

    rejected_by: ClassVar = {"files of the run"}

    def open(self, run, config, epochs):
        (run / "checkpoints").mkdir(exist_ok=True)
        return Ignores()


@seqjax.register("tracker", "opens-when-it-is-made")
@dataclass(frozen=True)
class OpensWhenItIsMade(seqjax.Tracker):
    """It makes a file before a run is opened."""

    rejected_by: ClassVar = {"nothing before open"}

    def __post_init__(self):
        super().__post_init__()
        Path(tempfile.gettempdir(), "seqjax-opens-when-it-is-made").write_text("")

    def open(self, run, config, epochs):
        return Ignores()
