"""The tracker TensorBoard."""

import struct
import textwrap
import time
from dataclasses import dataclass

from seqjax import Tracker, register
from seqjax.extras import needing
from seqjax.runs import Session, inner_folder


@register("tracker", "tensorboard")
@dataclass(frozen=True)
class TensorBoard(Tracker):
    """Writes event files of TensorBoard into the folder of each run: `tensorboard --logdir runs` shows them.

    TensorBoard keeps numbers as float32. It needs tensorboardX: `pip install 'seqjax[tensorboard]'`.
    """

    extra = "tensorboard"

    def open(self, run, config, epochs):
        """A session, which writes a new event file."""
        with needing(self.extra, "tracker tensorboard"):
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog
        folder = inner_folder(run, "tensorboard")
        folder.mkdir(exist_ok=True)
        # This writer is synchronous: what was flushed outlives a kill. `SummaryWriter` has a queue, whose flush does
        # not wait for it. The suffix gives each session a file of its own, even two within a second.
        writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        # TensorBoard drops what earlier files have of this step and later ones.
        start = SessionLog(status=SessionLog.START)
        writer.write_event(Event(wall_time=time.time(), step=epochs + 1, session_log=start))
        return _Events(writer)


class _Events(Session):
    """A session that writes an event file."""

    def __init__(self, writer):
        self.writer = writer

    def row(self, epoch, values):
        """Writes a scalar for each column."""
        from tensorboardX.proto.summary_pb2 import Summary

        self._write(
            epoch, Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        )

    def text(self, name, text, epoch):
        """Writes a text, as code of Markdown."""
        from tensorboardX.summary import text as text_summary

        self._write(epoch, text_summary(name, textwrap.indent(text, "    ", lambda line: True)))

    def figure(self, name, file, epoch):
        """Writes an image."""
        from tensorboardX.proto.summary_pb2 import Summary

        png = file.read_bytes()
        width, height = struct.unpack(">II", png[16:24])
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        self._write(epoch, Summary(value=[Summary.Value(tag=name, image=image)]))

    def close(self):
        """Closes the file."""
        self.writer.close()

    def _write(self, epoch, summary):
        from tensorboardX.proto.event_pb2 import Event

        self.writer.write_event(Event(wall_time=time.time(), step=epoch, summary=summary))
        self.writer.flush()
