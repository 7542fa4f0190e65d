"""Ctrl-C and SIGTERM while a run trains: the step under way is finished and saved, then the program ends."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator


class Interrupted(KeyboardInterrupt):
    """Training was interrupted and its state saved. Ends a command with 130 after Ctrl-C, 143 after SIGTERM."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], int | None]]:
    """Within, the first signal is only noted, and the second one ends the program at once.

    Signals are the main thread's; in any other they act as without it.

    Returns:
        A function that gives the exit code for the signal that has come, None before one has.
    """
    codes: list[int] = []

    def note(number, frame):
        if codes:
            os._exit(128 + number)
        codes.append(128 + number)
        with contextlib.suppress(OSError):  # where Ctrl-C ended the reader of a pipe too
            print("finishing this step and saving; once more leaves at once", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: codes[0] if codes else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
