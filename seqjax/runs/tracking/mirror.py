"""Mirrors the folder of a run to a tracker, and keeps account of what was sent."""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqjax.array_files import saved_file
from seqjax.errors import Error, escape, is_whole
from seqjax.files import write
from seqjax.parse import from_json
from seqjax.plugin import config
from seqjax.plugin.author import cause, is_full_disk, mistake_of
from seqjax.plugin.config import describe
from seqjax.plugin.registry import name_of
from seqjax.runs.files import folder
from seqjax.runs.listen import Listener
from seqjax.runs.state import RunState
from seqjax.runs.tracking.tracker import Session, Tracker, open_session
from seqjax.terminal.stream import say
from seqjax.training.loop import Diverged

ACCOUNT = "tracked.json"
"""The file in `folder.TRACKING` that says what was sent: tracker -> epochs, and the sha256 of each text and figure."""

SECONDS = 5.0
"""The least time from one write of the account to the next, in seconds. After a kill, what was sent since then is sent
again."""

TEXTS = {"config": folder.CONFIG, "samples": folder.SAMPLES}
FIGURES = {"history": folder.HISTORY}


class Mirror:
    """Sends to a tracker what is new in the folder of a run. No two processes mirror a run at a time.

    The session of the tracker is opened when there is something to send.

    Args:
        tracker: the tracker.
        path: the folder of the run.
        epochs: the number of rows that the run has now. Rows after it that were sent are sent again: a run that is
            resumed trains again what came after its last checkpoint.

    Raises:
        Error: exit code 5: another process is mirroring the run.
    """

    def __init__(self, tracker: Tracker, path: Path, epochs: int):
        self.tracker, self.path, self.name = tracker, path, describe(tracker, ":")
        self.session: Session | None = None
        self.written = time.monotonic()
        self.epoch = 0
        with contextlib.ExitStack() as stack:
            advice = "the same experiment in this folder sends the rest when it has ended"
            tracking = folder.inner_folder(path, folder.TRACKING)
            stack.enter_context(folder.lock(tracking, advice))
            folder.remove_parts(tracking)
            self.accounts = _read_accounts(path)
            self.locked = stack.pop_all()
        self.account: dict[str, Any] = self.accounts.setdefault(self.name, {"epochs": 0})
        if epochs < self.account["epochs"]:
            # A viewer may drop all that was sent after these epochs, also the texts and figures.
            self.account.clear()
            self.account["epochs"] = epochs

    def update(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sends the rows that are new.

        Args:
            rows: all rows of the run up to now.
        """
        self.epoch = len(rows)
        new = rows[self.account["epochs"] :]
        if new and self.session is None:
            self._send_files()
        for row in new:
            values = {name: value for name, value in row.items() if name != "epoch" and not math.isnan(value)}
            self._opened().row(row["epoch"], values)
        self.account["epochs"] = len(rows)
        if new and time.monotonic() - self.written >= SECONDS:
            self._write_account()

    def close(self) -> None:
        """Sends the texts and figures that are new, and ends the session."""
        with self.locked:
            self._send_files()
            if self.session is not None:
                self.session.close()
                self._write_account()

    def abandon(self) -> None:
        """Ends the mirror without a further call of the tracker."""
        self.locked.close()

    def _opened(self) -> Session:
        """The session, which is opened at its first use."""
        if self.session is None:
            fields = config.flatten(saved_file.read(self.path / folder.CONFIG, config.decode_toml))
            self.session = open_session(self.tracker, self.path, fields, self.account["epochs"])
        return self.session

    def _send_files(self) -> None:
        """Sends each text and figure that has changed."""
        for name, file in {**TEXTS, **FIGURES}.items():
            if not (self.path / file).is_file():
                continue
            data = saved_file.read(self.path / file, bytes)
            sha256 = hashlib.sha256(data).hexdigest()
            if self.account.get(name) == sha256:
                continue
            if name in TEXTS:
                self._opened().text(name, data.decode("utf-8", "backslashreplace"), self.epoch)
            else:
                self._opened().figure(name, self.path / file, self.epoch)
            self.account[name] = sha256

    def _write_account(self) -> None:
        text = json.dumps(self.accounts, indent=2) + "\n"
        write(self.path / folder.TRACKING / ACCOUNT, text.encode("utf-8", "backslashreplace"))
        self.written = time.monotonic()


class SafeMirror(Listener):
    """The mirror of a run that is being trained; a context, which sends the texts and figures at its end.

    If the tracker raises an exception, it prints a warning and ends.

    Args:
        run: the run.
        tracker: the tracker.
        path: the folder of the run.
    """

    def __init__(self, run: RunState, tracker: Tracker, path: Path):
        self.run = run
        self.mirror: Mirror | None = None
        try:
            self.mirror = Mirror(tracker, path, len(run.metrics))
        except Error as fault:
            say(f"warning  tracker {escape(describe(tracker))}: {fault}; training goes on without it")

    def __enter__(self) -> "SafeMirror":
        return self

    def epoch(self) -> None:
        if self.mirror is not None:
            self._guarded(self.mirror, lambda mirror: mirror.update(self.run.metrics))

    def end(self, fault: Diverged | None) -> None:
        # A run that was resumed after its last epoch has no chunks left, so that its rows are sent here.
        self.epoch()

    def __exit__(self, *_: object) -> None:
        if self.mirror is not None:
            self._guarded(self.mirror, Mirror.close)
        self.mirror = None

    def _guarded(self, mirror: Mirror, work: Callable[[Mirror], Any]) -> None:
        try:
            work(mirror)
        except (Exception, SystemExit) as fault:  # whatever the library of a tracker raises
            mirror.abandon()
            self.mirror = None
            say(
                f"warning  tracker {escape(mirror.name)}: {_what(mirror, fault)}\n"
                "         Training goes on without it. "
                "When it has ended, the same experiment in this folder sends the rest"
            )


def _what(mirror: Mirror, fault: BaseException) -> str:
    """An exception of a tracker as text, without its name. An `Error` is meant to be read as it is."""
    if is_full_disk(fault):
        return f"cannot write: {getattr(fault, 'strerror', None) or fault}; free some space"
    known = fault if isinstance(fault, Error) else mistake_of(mirror.tracker, fault, mirror.session)
    text = str(known or cause(mirror.tracker, fault))
    return text.removeprefix(f"tracker {name_of(mirror.tracker)}: ")


def _read_accounts(path: Path) -> dict[str, dict[str, Any]]:
    """Tracker -> what was sent."""
    file = path / folder.TRACKING / ACCOUNT

    def parse(data):
        accounts = from_json(data)
        if not all(is_whole(account["epochs"]) and account["epochs"] >= 0 for account in accounts.values()):
            raise ValueError("a number of epochs is not a whole number")
        return accounts

    return saved_file.read(file, parse) if file.is_file() else {}
