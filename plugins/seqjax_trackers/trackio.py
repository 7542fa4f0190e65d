"""The tracker Trackio."""

import contextlib
import hashlib
import io
import textwrap
from dataclasses import dataclass

from seqjax import Tracker, register
from seqjax.extras import needing
from seqjax.runs import Session


@register("tracker", "trackio")
@dataclass(frozen=True)
class Trackio(Tracker):
    """Logs to Trackio, which has the interface of wandb and keeps its data on this machine: `trackio show` shows them.

    A run has the name of its folder and of the one above it, and a hash. An epoch that Trackio has is not logged again,
    so that after a crash some epochs keep the seconds that they took before it. It needs trackio: `pip install
    'seqjax[trackio]'`.
    """

    extra = "trackio"

    project: str = "seqjax"
    """The project in which the runs are shown together."""

    def open(self, run, config, epochs):
        """A session, which adds to the run of this name in the project."""
        with needing(self.extra, "tracker trackio"):
            import trackio
            from trackio.sqlite_storage import SQLiteStorage
        name = _name(run)
        # trackio keeps data in this process and in a database. No data are sent, unless the user names a server in
        # the environment variables of trackio.
        with _silent():
            session = trackio.init(
                project=self.project,
                name=name,
                config=dict(config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        steps = [row["step"] for row in SQLiteStorage.get_logs(self.project, name) if "update" in row]
        return _Log(session, max(steps, default=0))


def _silent():
    """A context in which trackio prints nothing: its colours are control characters, which would be shown as text."""
    return contextlib.redirect_stdout(io.StringIO())


def _name(run):
    """The name of a run: its folder and the one above it, and a hash that tells it apart from others of this name.

    The file `environment.json` is written once, when a run is begun.
    """
    path, file = run.resolve(), run / "environment.json"
    begun = file.stat().st_mtime_ns if file.is_file() else 0
    return f"{'/'.join(path.parts[-2:])}-{hashlib.sha256(f'{path} {begun}'.encode()).hexdigest()[:6]}"


class _Log(Session):
    """A session that logs to a run of Trackio."""

    def __init__(self, run, known):
        self.run, self.known = run, known

    def row(self, epoch, values):
        """Logs the columns of an epoch that is not known."""
        if epoch > self.known:
            self.run.log(dict(values), step=epoch)

    def text(self, name, text, epoch):
        """Logs a text, as code of Markdown."""
        import trackio

        self.run.log({name: trackio.Markdown(textwrap.indent(text, "    ", lambda line: True))}, step=epoch)

    def figure(self, name, file, epoch):
        """Logs an image."""
        import trackio

        self.run.log({name: trackio.Image(str(file))}, step=epoch)

    def close(self):
        """Waits until everything is in the database."""
        with _silent():
            self.run.finish()
