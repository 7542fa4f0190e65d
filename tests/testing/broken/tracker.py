"""Trackers that are wrong. `wrong` is told which checks must find it."""

import json
import socket
import tempfile
from pathlib import Path

from support.wrong import wrong

import seqjax
from seqjax.runs import Session

OPENED = []


class Ignores(Session):
    """A correct session that keeps nothing, from which the others are derived."""

    def __init__(self, run):
        self.run = run

    def nothing(self, *arguments):
        pass

    row = text = figure = close = nothing


class Opens(seqjax.Tracker):
    """A correct tracker, whose sessions are of the class `Open`."""

    Open = Ignores

    def open(self, run, config, epochs):
        return self.Open(run)


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
        columns = None

        def row(self, epoch, values):
            self.columns = list(values)

        def close(self):
            assert self.columns


@wrong("tracker", "epochs come again", "another process")
class EpochsMayNotComeAgain(Opens):
    """It refuses an epoch that was sent before."""

    class Open(Ignores):
        def row(self, epoch, values):
            (self.run / f"epoch {epoch}").touch(exist_ok=False)


@wrong("tracker", "runs side by side")
class OneSessionAtATime(Opens):
    """It keeps the session that was opened last in its module."""

    class Open(Ignores):
        def __init__(self, run):
            OPENED.append(self)

        def row(self, epoch, values):
            assert OPENED[-1] is self


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
class ReplacesTheMetrics(Opens):
    """It writes into a file of the run."""

    class Open(Ignores):
        def row(self, epoch, values):
            (self.run / "metrics.jsonl").write_text(f"{epoch}\n")


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
