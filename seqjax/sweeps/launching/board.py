"""Shows how far the jobs of a sweep are, while a launcher waits for them."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from seqjax.errors import escape
from seqjax.sweeps.launching.state import JobState, states
from seqjax.terminal.live import open_output

NOT_RUNNING = ("finished", "diverged", "failed", "interrupted", "damaged")
"""The states of a run whose job has ended."""
EVERY = 0.5
"""Seconds from one look at the folders to the next."""
EVERY_LINE = 10.0
"""Seconds from one line about running jobs to the next, if the output is not a terminal."""


class JobBoard:
    """A context manager that prints a line for each job that ends, and shows those that run.

    Args:
        out: the folder of the sweep.
        names: the names of the runs that have jobs.
        show: whether to print anything.
    """

    def __init__(self, out: Path, names: Sequence[str], show: bool):
        self.out, self.names, self.show = out, names, show
        self.console, self.live = open_output("", show)
        self.looked, self.printed = -math.inf, time.monotonic()
        self.ended: set[str] = set()

    def __enter__(self) -> "JobBoard":
        if self.show and self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.looked > -math.inf:  # the launcher has waited for its jobs
            self._look()
        self.live.stop()

    def update(self) -> None:
        """Shows the progress, unless it was just shown."""
        if self.show and time.monotonic() - self.looked >= EVERY:
            self._look()

    def _look(self) -> None:
        self.looked = time.monotonic()
        shown = [state for state in states(self.out) if state.name in self.names]
        for state in shown:
            if state.state in NOT_RUNNING and state.name not in self.ended:
                self.ended.add(state.name)
                head = f"[{len(self.ended)}/{len(self.names)}]"
                self.console.print(f"{head} {escape(state.name or 'all')}: {_describe(state)}")
        text = "\n".join(f"{escape(s.name or 'all')}: {_describe(s)}" for s in shown if s.state == "running")
        if self.console.is_terminal:
            self.live.update(text, refresh=self.live.is_started)
        elif text and time.monotonic() - self.printed >= EVERY_LINE:
            self.printed = time.monotonic()
            self.console.print(text)


def _describe(state: JobState) -> str:
    words = [state.state, f"{state.epoch} of {state.epochs or '?'} epochs"]
    if state.seconds_left is not None:
        words.append(f"{state.seconds_left // 60:.0f}:{state.seconds_left % 60:02.0f} left")
    return ", ".join(words) + (f": {escape(state.note)}" if state.note else "")
