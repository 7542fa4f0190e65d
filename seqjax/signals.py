"""Notes Ctrl-C, SIGTERM, SIGHUP and SIGUSR1, and ends the process at a second one; `runs/listen.py` saves and ends.

Python calls the handler of a signal in the main thread between two of its instructions, and so not while XLA compiles
or computes. A thread sees each signal at once (`signal.set_wakeup_fd`), and ends the process when the handler cannot.
"""

import _thread
import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from seqjax.errors import LINES, escape
from seqjax.terminal.stream import say

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a command at any time."""
TO_SAVE = (*ENDING, signal.SIGUSR1)
"""The signals that save a run. SIGUSR1 is sent some time before the end, and waits for a step that can be saved."""
GRACE = 2.0
"""Seconds in which the main thread has to answer a signal when nothing can be lost."""
AGAIN = 0.01
"""Seconds until a signal is sent again whose exception was ignored."""


class Ended(KeyboardInterrupt):
    """Ends a command at a signal. Like Ctrl-C it is no `Exception`, so that no library takes it for its own.

    Attributes:
        number: the number of the signal.
        exit_code: the exit code of the command, by default 128 + the number of the signal.
    """

    def __init__(self, number: int, message: str = "", exit_code: int | None = None):
        words = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        super().__init__(message or words)
        self.number, self.exit_code = number, 128 + number if exit_code is None else exit_code


class _Context(NamedTuple):
    """How the signals of a context are handled.

    Args:
        before: signal -> its handler outside of the context.
        see: called by the thread when it sees a signal; returns whether the outer contexts see it too.
        seen: how often it has seen each signal. The second signal of one number ends the process.
        sent_again: how many of them `_send_again` has sent. They are counted, since the thread may see a signal later
            than its copy.
    """

    before: dict[int, Any]
    see: Callable[[int], bool]
    seen: Counter[int]
    sent_again: Counter[int]


_contexts: list[_Context] = []
"""The contexts that are entered, the innermost last."""
_raised: list[Ended] = []
"""The exception that ends the command, when a signal was answered."""
_unanswered: set[int] = set()
"""The signals that are sent again until they are answered, since Python has ignored their exceptions."""


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
def ending_at_signals() -> Iterator[Callable[[], Ended | None]]:
    """A context in which a command ends at Ctrl-C, SIGTERM and SIGHUP: `Ended` is raised in the main thread.

    If the main thread does not return to Python within `GRACE` seconds, as while it compiles, the process ends there.
    The same signal for the second time ends it at once. A signal that is ignored stays ignored, such as SIGHUP by
    `nohup`, and Ctrl-C in a background job.

    Yields:
        A function that returns the exception for the first signal that was answered, or None before one was.
    """
    _raised.clear()
    with contextlib.ExitStack() as stack:

        def see(number):
            timer = threading.Timer(GRACE, end_stuck, [number])
            timer.daemon = True
            stack.callback(timer.cancel)
            timer.start()
            return False

        def end_stuck(number):
            if not _raised:
                os.write(2, f"seqjax: {Ended(number)}\n".encode())
                os._exit(128 + number)

        stack.callback(_end_at_once_at_exit)
        stack.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = functools.partial(_after_ignored, sys.unraisablehook)
        stack.enter_context(_hearing(ENDING, lambda number, _: _end(Ended(number)), see))
        stack.callback(_unanswered.clear)  # before the handlers are restored
        yield lambda: _raised[0] if _raised else None


@contextlib.contextmanager
def too_early_to_save() -> Iterator[None]:
    """A context of a command before its training: SIGUSR1 ends it with exit code 2, since nothing can be saved.

    Otherwise a cluster that sends SIGUSR1 before training, and starts the job again, would do so each time. `noticed`
    handles SIGUSR1 during training. After training, or else from the end of this context on, SIGUSR1 does nothing.
    """
    heard = _handlers([signal.SIGUSR1])
    _set(dict.fromkeys(heard, _too_early))
    try:
        yield
    finally:
        _set(dict.fromkeys(heard, _all_is_saved))


def _too_early(number: int, frame: Any) -> None:
    text = "SIGUSR1 arrived before training had begun: allow the job more time, or a shorter notice"
    _end(Ended(number, text, exit_code=2))


def _all_is_saved(number: int, frame: Any) -> None:
    """Handles SIGUSR1 after training."""


def _end(ended: Ended) -> None:
    """Raises the first exception that ends the command. Another signal while it ends changes nothing."""
    if not _raised:
        _raised.append(ended)
        _unanswered.discard(ended.number)
        raise ended


def _after_ignored(report: Callable[[Any], Any], unraisable: Any) -> None:
    """Has a signal sent again whose `Ended` Python has ignored; reports any other exception that it has ignored.

    Python ignores exceptions in destructors and in callbacks of the garbage collector, of which JAX has one.
    """
    if isinstance(unraisable.exc_value, Ended):
        number = unraisable.exc_value.number
        _unanswered.add(number)
        # Unlike `threading.Thread.start`, it does not wait for the thread. Python would also ignore an exception in
        # this function.
        _thread.start_new_thread(_send_again, (number,))
    else:
        report(unraisable)


def _send_again(number: int) -> None:
    """Sends a signal until it is answered: its exception may be ignored again, or a call of the system may wait.

    `pthread_kill` ends a call of the system in which the main thread waits. `kill` may choose another thread.
    """
    main = threading.main_thread().ident
    assert main is not None  # it has begun
    time.sleep(AGAIN)  # what has ignored the exception has not returned yet
    _raised.clear()
    while number in _unanswered:
        for context in _contexts:  # otherwise this would be the second signal, which ends the process at once
            context.sent_again[number] += 1
        signal.pthread_kill(main, number)
        time.sleep(AGAIN)


@contextlib.contextmanager
def noticed(can_lose: Callable[[], bool] = lambda: True) -> Iterator[Callable[[], int | None]]:
    """A context in which a signal is only noted; the same signal for the second time ends the program at once.

    Another signal does not: a cluster may send SIGTERM to all processes of a job, and its script SIGUSR1 to this one.
    Only the main thread can handle signals; in any other thread the context does nothing. A signal that is ignored
    stays ignored, such as Ctrl-C in a background job.

    Args:
        can_lose: whether something is lost if the program ends now. If not, SIGUSR1 is still noted, and the other
            signals are handled as outside of this context.

    Yields:
        A function that returns the exit code for the first signal that has arrived, or None before one has.
    """
    noted: list[int] = []
    passed_on: dict[int, bool] = {}
    was_told = False

    def is_passed_on(number):
        """Decides once for each signal, in the handler or in the thread, whichever is first."""
        return passed_on.setdefault(number, number in ENDING and not can_lose())

    def answer(number, frame):
        if not is_passed_on(number):
            noted.append(number)
            _unanswered.discard(number)
        elif callable(before[number]):
            before[number](number, frame)

    def see(number):
        if is_passed_on(number) and not callable(before[number]):  # outside, the kernel ends the process
            os._exit(128 + number)
        if not is_passed_on(number):
            _say("finishing this step and saving; the same signal again ends at once")
        return is_passed_on(number)

    def code():
        nonlocal was_told
        was_told = was_told or bool(noted)
        return 128 + noted[0] if noted else None

    with _hearing(TO_SAVE, answer, see) as before:
        if before.get(signal.SIGUSR1) is _too_early:
            before[signal.SIGUSR1] = _all_is_saved  # when this context ends
        yield code
    if noted and not was_told and noted[0] in ENDING:  # it arrived after the last question
        signal.raise_signal(noted[0])


@contextlib.contextmanager
def _hearing(
    numbers: Iterable[int], answer: Callable[[int, Any], Any], see: Callable[[int], bool]
) -> Iterator[dict[int, Any]]:
    """A context with a handler of signals, and with a thread that sees them. It does nothing outside the main thread.

    Args:
        numbers: the signals. Those that are ignored stay so.
        answer: the handler, which is called in the main thread when that is in Python.
        see: see `_Context`.

    Yields:
        Signal -> the handler that the end of the context restores.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
        yield before
        return
    with contextlib.ExitStack() as stack:
        _contexts.append(_Context(before, see, Counter(), Counter()))
        stack.callback(_contexts.pop)
        if len(_contexts) == 1:
            stack.enter_context(_watching())
        before |= _handlers(numbers)
        stack.callback(_set, before)
        _set(dict.fromkeys(before, answer))
        yield before


def _handlers(numbers: Iterable[int]) -> dict[int, Any]:
    """The handlers of those signals that are not ignored."""
    handlers = {number: signal.getsignal(number) for number in numbers}
    return {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}


def _set(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def _watching() -> Iterator[None]:
    """A context in which a thread sees each signal that has a handler in Python."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch():
        while numbers := os.read(reader, 64):
            for number in numbers:
                if _see(number) and before >= 0:
                    with contextlib.suppress(OSError):
                        os.write(before, bytes([number]))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # ends the thread
        thread.join()
        os.close(reader)


def _see(number: int) -> bool:
    """Lets the contexts see a signal, the innermost first.

    Returns whether the earlier wake-up descriptor gets the signal too.
    """
    for context in reversed(_contexts):
        if number in context.before:
            if context.seen[number] > context.sent_again[number]:
                os._exit(128 + number)
            context.seen[number] += 1
            if not context.see(number):
                return False
    return True


@functools.cache
def _end_at_once_at_exit() -> None:
    """From the exit of Python on, a signal ends the process at once, with the exit code of the signal."""
    atexit.register(lambda: _set(dict.fromkeys(_handlers(ENDING), lambda number, _: os._exit(128 + number))))


def _say(text: str) -> None:
    """Prints on stderr, if it is there."""
    if sys.stderr is not None:
        say(text, sys.stderr)
