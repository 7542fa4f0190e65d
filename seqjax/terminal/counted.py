"""`CountedDisplay`: shows which of several items is worked on, such as the runs of a sweep."""

import time

from seqjax.errors import escape
from seqjax.terminal.live import open_output


class CountedDisplay:
    """A context manager that prints a line for each item that has ended, and shows a live line for the one that runs.

    Args:
        total: the number of items.
        show: False: nothing is printed.
        live_text: the live line before the first item.
        alike: whether the items take about the same time, so that the time left can be estimated and shown.
    """

    def __init__(self, total: int, show: bool, live_text: str, alike: bool):
        self.total, self.show, self.alike = total, show, alike
        self.console, self.live = open_output(live_text, show)
        self.count = 0
        self.seconds: list[float] = []

    def __enter__(self) -> "CountedDisplay":
        if self.show and self.console.is_terminal:
            self.live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def begin(self, name: str) -> None:
        """Shows that the next item has begun."""
        self.count += 1
        self.head = f"[{self.count}/{self.total}] {escape(name)}"
        self.began = time.monotonic()
        self.has_worked = False
        self._show("started")

    def update(self, text: str) -> None:
        """Shows how far the item is."""
        self.has_worked = True
        self._show(text)

    def end(self, text: str) -> None:
        """Prints the result of the item, and how many seconds it took."""
        seconds = time.monotonic() - self.began
        if self.has_worked:  # a finished run that was opened says nothing about the time of the others
            self.seconds.append(seconds)
        self.console.print(f"{self.head}: {escape(text)} ({seconds:.0f} s)")

    def show_text(self, text: str) -> None:
        """Shows a live line between two items, or after the last one."""
        self.live.update(text, refresh=self.live.is_started)

    def _show(self, text: str) -> None:
        self.show_text(f"{self.head}: {escape(text)}{self._left()}")

    def _left(self) -> str:
        """The time left if all items take as long as those that have ended; empty if it cannot be told."""
        if not (self.alike and self.seconds):
            return ""
        mean = sum(self.seconds) / len(self.seconds)
        this = max(0.0, mean - (time.monotonic() - self.began))
        left = this + mean * (self.total - self.count)
        return f" · about {left // 60:.0f}:{left % 60:02.0f} left" if left >= 1 else ""
