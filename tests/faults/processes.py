"""Child processes that are forked after the imports, and before JAX has started its threads."""

import multiprocessing
import multiprocessing.connection
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

COUNT = 2
"""The number of processes at a time."""
_CONTEXT = multiprocessing.get_context("fork")


def each(tasks: Iterable[Callable[[], Any]]) -> Iterator[Any]:
    """The results of functions, each of which is called in a process of its own."""
    waiting, running = iter(tasks), {}
    while True:
        while len(running) < COUNT and (task := next(waiting, None)) is not None:
            receive, process = _start(task)
            running[receive] = process
        if not running:
            return
        for receive in multiprocessing.connection.wait(list(running)):
            yield _result(receive, running.pop(receive))


def in_child(work: Callable[[], Any]) -> Any:
    """The result of a function that is called in another process; None if that is killed."""
    return _result(*_start(work), may_be_killed=True)


def _start(work):
    receive, send = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_work, args=(work, send))
    process.start()
    send.close()
    return receive, process


def _work(work, send):
    try:
        send.send((work(), None))
    except BaseException:
        send.send((None, traceback.format_exc()))


def _result(receive, process, may_be_killed=False):
    try:
        result, fault = receive.recv()
    except EOFError:
        result, fault = None, None if may_be_killed else "the process was killed"
    process.join()
    if fault:
        raise RuntimeError(fault)
    return result
