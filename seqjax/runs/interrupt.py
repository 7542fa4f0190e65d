"""Ctrl-C, SIGTERM and SIGUSR1 during training: the current step is finished and saved, then the program ends."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn


def leave(message: str, exit_code: int) -> NoReturn:
    """Raises the exception that ends a program with this exit code.

    For Ctrl-C, 130, it is a `KeyboardInterrupt` with the message, which Python or the command line prints. Otherwise it
    is a `SystemExit`, whose message they do not print, so that it is printed here.
    """
    if exit_code == 128 + signal.SIGINT:
        raise KeyboardInterrupt(message)
    with contextlib.suppress(OSError):  # stderr may have gone with the terminal
        print(message, file=sys.stderr, flush=True)
    raise SystemExit(exit_code)


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], int | None]]:
    """A context in which a signal is only noted; the same signal for the second time ends the program at once.

    Another signal does not: a cluster may send SIGTERM to all processes of a job, and its script SIGUSR1 to this one.
    Only the main thread can handle signals; in any other thread the context does nothing. A signal that is ignored
    stays ignored, such as Ctrl-C in a background job.

    Yields:
        A function that returns the exit code for the first signal that has arrived, or None before one has.
    """
    codes: list[int] = []

    def note(number, frame):
        if 128 + number in codes:
            os._exit(128 + number)
        codes.append(128 + number)
        with contextlib.suppress(OSError):  # Ctrl-C may have ended the reader of a pipe too
            print("finishing this step and saving; the same signal again ends at once", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    heard = [
        n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) if signal.getsignal(n) not in (signal.SIG_IGN, None)
    ]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield lambda: codes[0] if codes else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
