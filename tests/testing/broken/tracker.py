"""Trackers that are wrong. `wrong` is told which checks must find it."""

import json
import socket
import tempfile
from pathlib import Path
from typing import ClassVar

from support.wrong import wrong

import seqjax
from seqjax.runs import Session


class Ignores(Session):
    """A correct session that keeps nothing, from which the others are derived."""

    def __init__(self, run):
        self.run = run

    def row(self, epoch, values):
        pass

    def text(self, name, text, epoch):
        pass

    def figure(self, name, file, epoch):
        pass

    def close(self):
        pass


class Opens(seqjax.Tracker):
    """A correct tracker, whose sessions are of the class `Open`."""

    Open = Ignores

    def open(self, run, config, epochs):
        return self.Open(run)


@wrong("tracker", "session")
class OpensNothing(seqjax.Tracker):
    """Its `open` returns None."""

    def open(self, run, config, epochs):
        pass


@wrong("tracker", "session")
class TakesNoFigure(Opens):
    """Its session has no method `figure`."""

    class Open(Ignores):
        figure = Session.figure


@wrong("tracker", "session")
class DecodesTheFigure(Opens):
    """It reads a PNG file as text."""

    class Open(Ignores):
        def figure(self, name, file, epoch):
            file.read_text("utf-8")


@wrong("tracker", "unusual values", "arguments stay as they are")
class JsonWithoutInfinity(Opens):
    """It cannot send an infinite perplexity."""

    class Open(Ignores):
        def row(self, epoch, values):
            json.dumps(values, allow_nan=False)


@wrong("tracker", "unusual values")
class FirstLineOfAText(Opens):
    """It takes no empty text."""

    class Open(Ignores):
        def text(self, name, text, epoch):
            return text.splitlines()[0]


@wrong("tracker", "no epochs")
class ColumnsOfTheFirstRow(Opens):
    """It writes the columns of the first row when it is closed, of which there may be none."""

    class Open(Ignores):
        def __init__(self, run):
            self.rows = []

        def row(self, epoch, values):
            self.rows.append(dict(values))

        def close(self):
            return list(self.rows[0])


@wrong("tracker", "epochs come again", "another process")
class NewFileForEachSession(Opens):
    """It cannot open a second session of a run."""

    def open(self, run, config, epochs):
        (run / "rows.txt").touch(exist_ok=False)
        return super().open(run, config, epochs)


@wrong("tracker", "epochs come again", "another process")
class EpochsMustRise(Opens):
    """It refuses an epoch that was sent before."""

    class Open(Ignores):
        def row(self, epoch, values):
            last = self.run / "last.txt"
            assert not last.exists() or int(last.read_text()) < epoch
            last.write_text(str(epoch))


@wrong("tracker", "runs side by side")
class OneSessionAtATime(Opens):
    """It keeps the session that is open in its module."""

    opened: ClassVar = []

    class Open(Ignores):
        def row(self, epoch, values):
            assert OneSessionAtATime.opened[-1] is self

        def close(self):
            OneSessionAtATime.opened.remove(self)

    def open(self, run, config, epochs):
        OneSessionAtATime.opened.append(super().open(run, config, epochs))
        return OneSessionAtATime.opened[-1]


@wrong("tracker", "another process")
class WaitsToBeClosed(Opens):
    """It marks a run as open in its folder, and refuses it until it is closed."""

    class Open(Ignores):
        def close(self):
            (self.run / "is-open").unlink()

    def open(self, run, config, epochs):
        (run / "is-open").touch(exist_ok=False)
        return super().open(run, config, epochs)


@wrong("tracker", "arguments stay as they are")
class TakesValuesOut(Opens):
    """It takes what it has sent out of the row."""

    class Open(Ignores):
        def row(self, epoch, values):
            values.popitem()


@wrong("tracker", "arguments stay as they are")
class AddsToTheConfig(Opens):
    """It adds the name of the machine to the config that it is given."""

    def open(self, run, config, epochs):
        config["machine"] = socket.gethostname()
        return super().open(run, config, epochs)


@wrong("tracker", "files of the run")
class AppendsToTheMetrics(Opens):
    """It writes into a file of the run."""

    class Open(Ignores):
        def row(self, epoch, values):
            with (self.run / "metrics.jsonl").open("a") as file:
                file.write(f"{epoch}\n")


@wrong("tracker", "files of the run")
class ANameOfSeqjax(Opens):
    """Its folder is that of the checkpoints."""

    def open(self, run, config, epochs):
        (run / "checkpoints").mkdir(exist_ok=True)
        return super().open(run, config, epochs)


@wrong("tracker", "nothing before open")
class OpensWhenItIsMade(Opens):
    """It makes a file before a run is opened."""

    def __post_init__(self):
        super().__post_init__()
        Path(tempfile.gettempdir(), "seqjax-opens-when-it-is-made").write_text("")
