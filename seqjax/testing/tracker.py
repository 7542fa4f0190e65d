"""Checks of a tracker: its sessions take all that a run has, for one run after another and again after a crash."""

import contextlib
import copy
import math
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqjax.errors import Error
from seqjax.plugin import config
from seqjax.plugin.author import Mistake
from seqjax.runs import settings
from seqjax.runs.files import folder
from seqjax.runs.tracking.tracker import Session, Tracker, open_session
from seqjax.testing.compare import Failed, Skipped
from seqjax.testing.line import Check, Found
from seqjax.testing.process import in_another_process

CONFIG = {**settings.DEFAULTS, "seed": 0, "epochs": 3, "train": 0.9, "keep_prob": [0.5, 0.9]}
"""The config of the run: numbers, texts, and a list."""
UNUSUAL = {
    "train_loss": 0.0, "train_perplexity": math.inf, "seconds": 5e-324, "tokens_per_second": 1.7e308,
    "heldout_loss": -1e-30, "update": 2**53 + 1,
}  # fmt: skip
"""Values that a column may have. NaN is left out before a row is sent."""
TEXTS = ("", "a line\r\n\n  indented\x00", "Ünï 🎉 <b>*not bold*</b> `", "long " * 20_000)


def checks(tracker: Tracker) -> Sequence[Check]:
    """The checks of a tracker; the first one is that it opens a session."""
    return CHECKS


def check_session(tracker: Tracker) -> Found:
    """Checks that a session takes rows, texts and a figure, and can be closed."""
    with _run("session") as run:
        session = _open(tracker, run)
        session.text("config", (run / folder.CONFIG).read_text("utf-8"), 0)
        _send_rows(session, (1, 2, 3))
        session.text("samples", "It was ", 3)
        session.figure("history", run / folder.HISTORY, 3)
        session.close()
        return Found(note=f"a run called {'/'.join(run.parts[-2:])}")


def check_unusual(tracker: Tracker) -> Found:
    """Checks extreme numbers, a column that other rows do not have, and texts with any characters."""
    with _run("unusual-values") as run, contextlib.closing(_open(tracker, run)) as session:
        _send_rows(session, (1,))
        for epoch, (name, value) in enumerate(UNUSUAL.items(), 2):
            _try(f"a row with {name} = {value!r}", lambda given=(epoch, {name: value}): session.row(*given))
        for epoch, text in enumerate(TEXTS):
            _try(f"the text {text[:40]!r}", lambda given=("samples", text, epoch): session.text(*given))
    return Found(note=f"{len(UNUSUAL)} numbers, {len(TEXTS)} texts")


def check_no_epochs(tracker: Tracker) -> Found:
    """Checks a run that has ended before its first epoch, and only has a config."""
    with _run("no-epochs") as run, contextlib.closing(_open(tracker, run)) as session:
        session.text("config", (run / folder.CONFIG).read_text("utf-8"), 0)
    return Found()


def check_again(tracker: Tracker) -> Found:
    """Checks a second session of the same run, which gets an epoch again and then the next one."""
    with _run("epochs-again") as run:
        for epochs in ((1, 2), (2, 3)):
            with contextlib.closing(_open(tracker, run, epochs=epochs[0] - 1)) as session:
                _send_rows(session, epochs)
    return Found()


def check_side_by_side(tracker: Tracker) -> Found:
    """Checks two sessions that are open at a time, as for seeds that are trained together."""
    with _run("side-by-side-1") as first, _run("side-by-side-2") as second:
        sessions = [_open(tracker, run) for run in (first, second)]
        for epoch in (1, 2):
            for session in sessions:
                _send_rows(session, (epoch,))
        for session in sessions:
            session.close()
    return Found()


def check_processes(tracker: Tracker) -> Found:
    """Checks a session in another process, beside one of this process, and a run whose session was not closed."""
    with _run("this-process") as here, _run("another-process") as there:
        with contextlib.closing(_open(tracker, here)) as session:
            _send_rows(session, (1,))
            in_another_process(tracker, "session_without_close", str(there), _config(there))
            _send_rows(session, (2,))

        def open_again():
            with contextlib.closing(_open(tracker, there)) as session:
                _send_rows(session, (1, 2))

        _try("a session of a run whose last session was not closed", open_again)
    return Found()


def check_arguments(tracker: Tracker) -> Found:
    """Checks that a session changes neither the config nor the values that it is given."""
    with _run("arguments") as run:
        given = _config(run)
        before = copy.deepcopy(given)
        with contextlib.closing(_open(tracker, run, given)) as session:
            if given != before:
                raise Failed("open changes the config that it is given")
            values = dict(UNUSUAL)
            session.row(1, values)
            if values != UNUSUAL:
                raise Failed("row changes the values that it is given")
    return Found()


def check_files(tracker: Tracker) -> Found:
    """Checks that the files of the run stay as they are, and that no file takes the name of another one of them."""
    with _run("files") as run:
        before = {path.name: path.read_bytes() for path in run.iterdir()}
        with contextlib.closing(_open(tracker, run)) as session:
            _send_rows(session, (1,))
            session.figure("history", run / folder.HISTORY, 1)
        after = {path.name for path in run.iterdir()}
        changed = [name for name, data in before.items() if name not in after or (run / name).read_bytes() != data]
        if changed:
            raise Failed(f"it changes {', '.join(changed)} in the folder of the run")
        if taken := (after - before.keys()) & OF_SEQJAX:
            raise Failed(f"it makes {', '.join(sorted(taken))} in the folder of the run, a name that seqjax uses")
        return Found(note=f"it makes {', '.join(sorted(after - before.keys())) or 'nothing'} in the folder of the run")


def check_making(tracker: Tracker) -> Found:
    """Checks that making an instance opens nothing: even a command that only prints a config makes one."""
    opened = in_another_process(tracker, "opened_by_making")
    if opened:
        raise Failed(f"an instance, before `open` is called, causes {', '.join(opened)}")
    return Found()


CHECKS = (
    Check(
        "session", check_session,
        "open(run, config, epochs) returns a session with the methods row, text, figure and close",
    ),
    Check(
        "unusual values", check_unusual,
        "convert what your service cannot hold: an infinite perplexity, an int above 2**53, an empty text",
    ),
    Check("no epochs", check_no_epochs, "a session may be closed before a row was sent, and a text may have epoch 0"),
    Check(
        "epochs come again", check_again,
        "a run that is resumed opens a session again, and may send an epoch that was sent before: replace it or leave "
        "it out",
    ),
    Check(
        "runs side by side", check_side_by_side,
        "several sessions are open at a time: keep what belongs to a run in its session, not in the module",
    ),
    Check(
        "another process", check_processes,
        "the jobs of a sweep send at a time, each from its process, and one that is killed does not close its session",
    ),
    Check("arguments stay as they are", check_arguments, "make a copy: dict(values)"),
    Check(
        "files of the run", check_files,
        "the folder belongs to the run: write into a file or folder of your own in it, with the name of the tracker",
    ),
    Check("nothing before open", check_making, "open files and connections in `open`, not in __post_init__"),
)  # fmt: skip

OF_SEQJAX = {
    folder.CONFIG, folder.ENVIRONMENT, folder.METRICS, folder.CODEC, folder.PARAMS, folder.SAMPLES, folder.HISTORY,
    folder.PLUGINS, folder.CHECKPOINTS, folder.LOCK, folder.MANIFEST, folder.BEST, folder.TRACKING,
    *folder.DATA.values(),
}  # fmt: skip
"""The names that seqjax uses in the folder of a run."""


@contextlib.contextmanager
def _run(name: str) -> Iterator[Path]:
    """The folder of a made-up run. Its path says what it is, since a service may show the run."""
    with tempfile.TemporaryDirectory(prefix="seqjax-check-") as parent:
        run = Path(parent) / name
        run.mkdir()
        (run / folder.CONFIG).write_text(config.to_toml(CONFIG), "utf-8")
        for file in (folder.METRICS, folder.ENVIRONMENT, folder.CODEC, folder.PARAMS, folder.SAMPLES):
            (run / file).write_text("{}\n")
        (run / folder.HISTORY).write_bytes(_png())
        yield run


def _config(run: Path) -> dict[str, Any]:
    """The config as a session gets it."""
    return config.flatten(config.from_toml((run / folder.CONFIG).read_text("utf-8")))


def _open(tracker: Tracker, run: Path, given: dict[str, Any] | None = None, epochs: int = 0) -> Session:
    """A session. If the tracker says that it cannot work here, such as without its library, the check is not made."""
    try:
        return open_session(tracker, run, _config(run) if given is None else given, epochs)
    except Mistake:
        raise
    except Error as why:
        raise Skipped(str(why)) from why


def _send_rows(session: Session, epochs: Iterable[int]) -> None:
    """Sends a row for each epoch."""
    for epoch in epochs:
        session.row(epoch, {"train_loss": 2 / epoch, "grad_norm": 0.5, "seconds": 1.5 * epoch, "update": 10 * epoch})


def _try(what: str, action: Any) -> None:
    """Does something, and says what it was if it fails."""
    try:
        action()
    except Error as fault:
        raise Failed(f"{what}: {fault}") from fault


def _png() -> bytes:
    """A figure of four red pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 8, 6, 0, 0, 0)  # 2 x 2 pixels of 8 bits for red, green, blue and alpha
    pixels = zlib.compress((b"\0" + b"\xff\0\0\xff" * 2) * 2)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
