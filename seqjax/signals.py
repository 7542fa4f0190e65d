"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1: the current step of training is finished and saved, then the program ends.

Python calls the handler of a signal in the main thread between two of its instructions, and so not while XLA compiles
or computes. A thread sees each signal at once (`signal.set_wakeup_fd`), and ends the process when the handler cannot.
"""

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from seqjax.errors import LINES, escape
from seqjax.terminal.stream import say

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a command at any time."""
TO_SAVE = (*ENDING, signal.SIGUSR1)
"""The signals that save a run. SIGUSR1 is sent some time before the end, and waits for a step that can be saved."""
GRACE = 2.0
"""Seconds in which the main thread has to answer a signal when nothing can be lost."""


class Ended(KeyboardInterrupt):
    """Ends a command at a signal. Like Ctrl-C it is no `Exception`, so that no library takes it for its own.

    Attributes:
        exit_code: the exit code of the command, 128 + the number of the signal.
    """

    def __init__(self, number: int):
        super().__init__("interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def leave(message: str, exit_code: int) -> NoReturn:
    """Raises the exception that ends a program with this exit code.

    For Ctrl-C, 130, it is a `KeyboardInterrupt` with the message, which Python or the command line prints. Otherwise it
    is a `SystemExit`, whose message they do not print, so that it is printed here.
    """
    message = escape(message, LINES)
    if exit_code == 128 + signal.SIGINT:
        raise KeyboardInterrupt(message)
    _say(message)
    raise SystemExit(exit_code)


@contextlib.contextmanager
def ending_at_signals() -> Iterator[Callable[[], int | None]]:
    """A context in which a command ends at Ctrl-C, SIGTERM and SIGHUP: `Ended` is raised in the main thread.

    If the main thread does not return to Python within `GRACE` seconds, as while it compiles, the process ends there.
    The same signal for the second time ends it at once. A signal that is ignored stays ignored, such as SIGHUP by
    `nohup`, and Ctrl-C in a background job.

    Yields:
        A function that returns the exit code for the first signal that was answered, or None before one was.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    answered: list[int] = []
    seen: list[int] = []
    timers: list[threading.Timer] = []

    def answer(number, frame):
        if number in answered:
            os._exit(128 + number)
        answered.append(number)
        if len(answered) == 1:
            raise Ended(number)

    def see(number):
        if number not in before:
            return
        if number in seen:
            os._exit(128 + number)
        seen.append(number)
        timers.append(threading.Timer(GRACE, end_stuck, [number]))
        timers[-1].daemon = True
        timers[-1].start()

    def end_stuck(number):
        if not answered:
            os.write(2, f"seqjax: {Ended(number)}\n".encode())
            os._exit(128 + number)

    def again(number):
        answered.remove(number)
        if number in seen:  # otherwise this would be the second signal, which ends the process at once
            seen.remove(number)
        # Unlike `raise_signal`, it ends a call of the system in which the main thread waits.
        os.kill(os.getpid(), number)

    before = _hear(ENDING, answer)
    try:
        with _watching(lambda number, _: see(number)), _raising_again(again):
            yield lambda: 128 + answered[0] if answered else None
    finally:
        for timer in timers:
            timer.cancel()
        _restore(before)
        _end_at_once_at_exit()


@contextlib.contextmanager
def _raising_again(again: Callable[[int], Any]) -> Iterator[None]:
    """A context that calls `again(number)` if Python has ignored the `Ended` of this signal.

    Python ignores exceptions in destructors and in callbacks of the garbage collector, of which JAX has one. The call
    is made a moment later by a thread, since the callback has not returned yet.
    """
    before = sys.unraisablehook

    def hook(unraisable):
        if isinstance(unraisable.exc_value, Ended):
            threading.Timer(0.01, again, [unraisable.exc_value.exit_code - 128]).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def noticed(can_lose: Callable[[], bool] = lambda: True) -> Iterator[Callable[[], int | None]]:
    """A context in which a signal is only noted; the same signal for the second time ends the program at once.

    Another signal does not: a cluster may send SIGTERM to all processes of a job, and its script SIGUSR1 to this one.
    Only the main thread can handle signals; in any other thread the context does nothing. A signal that is ignored
    stays ignored, such as Ctrl-C in a background job.

    Args:
        can_lose: whether something is lost if the program ends now. If not, a signal but SIGUSR1 does what it does
            outside of this context.

    Yields:
        A function that returns the exit code for the first signal that has arrived, or None before one has.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    codes: list[int] = []
    seen: list[int] = []
    passed_on: dict[int, bool] = {}
    was_asked: list[bool] = []

    def is_passed_on(number):
        """Decided once for each signal, by the handler or the thread, whichever is first."""
        return passed_on.setdefault(number, number in ENDING and not can_lose())

    def note(number, frame):
        if is_passed_on(number):
            _call(before[number], number, frame)
        elif 128 + number in codes:
            os._exit(128 + number)
        else:
            codes.append(128 + number)

    def see(number, pass_on):
        if number not in before:
            pass_on()
            return
        if number in seen:
            os._exit(128 + number)
        seen.append(number)
        if not is_passed_on(number):
            _say("finishing this step and saving; the same signal again ends at once")
        elif callable(before[number]):
            pass_on()
        else:
            _call(before[number], number, None)

    def code():
        was_asked.append(bool(codes))
        return codes[0] if codes else None

    before = _hear(TO_SAVE, note)
    try:
        with _watching(see):
            yield code
    finally:
        _restore(before)
    if codes and not any(was_asked) and codes[0] - 128 in ENDING:  # it arrived after the last question
        signal.raise_signal(codes[0] - 128)


def _hear(numbers: Iterable[int], handler: Any) -> dict[int, Any]:
    """Sets the handler of those signals that are not ignored, and returns the handlers before."""
    heard = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, handler) for number in heard}


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _call(handler: Any, number: int, frame: Any) -> None:
    """Does what a handler does; where the kernel would end the process, it ends with the exit code of this signal."""
    if callable(handler):
        handler(number, frame)
    else:
        os._exit(128 + number)


@contextlib.contextmanager
def _watching(see: Callable[[int, Callable[[], Any]], Any]) -> Iterator[None]:
    """A context in which a thread calls `see(number, pass_on)` at each signal that has a handler in Python.

    Args:
        see: its second argument is a function that passes the signal on to what has watched before.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def pass_on(number):
        if before >= 0:
            with contextlib.suppress(OSError):
                os.write(before, bytes([number]))

    def watch():
        while numbers := os.read(reader, 64):
            for number in numbers:
                see(number, functools.partial(pass_on, number))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # ends the thread
        thread.join()
        os.close(reader)


@functools.cache
def _end_at_once_at_exit() -> None:
    """From the exit of Python on, a signal ends the process at once, with the exit code of the signal."""
    atexit.register(_hear, ENDING, lambda number, _: os._exit(128 + number))


def _say(text: str) -> None:
    """Prints on stderr, if it is there."""
    if sys.stderr is not None:
        say(text, sys.stderr)
