"""Ctrl-C and SIGTERM while a run trains: the step under way is finished and saved, then the program ends."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn


def leave(message: str, exit_code: int) -> NoReturn:
    """Raises what ends any program with this exit code.

    After Ctrl-C, 130, that is a `KeyboardInterrupt` with the message, which Python or the command line prints; else a
    `SystemExit`, of which they print nothing, so that the message is printed here.
    """
    if exit_code == 128 + signal.SIGINT:
        raise KeyboardInterrupt(message)
    with contextlib.suppress(OSError):  # stderr may have gone with the terminal
        print(message, file=sys.stderr, flush=True)
    raise SystemExit(exit_code)


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], int | None]]:
    """Within, the first signal is only noted, and the second one ends the program at once.

    Signals are the main thread's; in any other they act as without it. So does one that is ignored, as Ctrl-C is in a
    background job.

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
    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield lambda: codes[0] if codes else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
