"""`Board`: shows which scripts run, for how long, and how many are done."""

import time
from collections.abc import Callable
from pathlib import Path

from seqjax.errors import escape
from seqjax.terminal.console import Console, Live


class Board:
    """A context manager that prints a line for each event; on a terminal it also shows the scripts that run.

    Args:
        total: the number of scripts.
        clock: returns the time in seconds.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic):
        self.total, self.done, self.clock = total, 0, clock
        self.began: dict[Path, float] = {}
        self.console = Console()
        self.live = Live("", self.console, get_renderable=self.line, refresh_per_second=1)

    def __enter__(self) -> "Board":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def start(self, script: Path, log: Path) -> None:
        """Prints that a script was started, and into which file its output goes."""
        self.began[script] = self.clock()
        self._print("runs", f"{script} (prints into {log})")

    def end(self, script: Path, text: str, failed: bool = False) -> None:
        """Prints how a script ended, now or in an earlier call."""
        self.began.pop(script, None)
        self.done += 1
        self._print("failed" if failed else "done", f"[{self.done}/{self.total}] {text}")

    def line(self) -> str:
        """The scripts that run, each with its minutes and seconds, and how many are done."""
        seconds = {script.stem: int(self.clock() - began) for script, began in list(self.began.items())}
        running = ", ".join(f"{escape(name)} {s // 60}:{s % 60:02}" for name, s in seconds.items())
        return f"running  {running or 'none'} · {self.done} of {self.total} done"

    def _print(self, name: str, text: str) -> None:
        self.console.print(f"{name:8} {escape(text)}")
