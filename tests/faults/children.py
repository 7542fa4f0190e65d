"""Calls functions in forked processes, two at a time, each with a time limit.

A process is forked after jax and seqjax are imported, and before JAX starts its threads: it is there in milliseconds,
and whatever happens to it, such as an abort, happens to it alone.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

AT_ONCE = 2
SECONDS = 180.0
"""The time after which a process counts as hung. All of them end within seconds, unless the machine is very busy."""
BYTES = 2**34
"""The memory that a process may ask for, so that no case takes that of the machine."""
UNPICKLED = 97
"""The exit code of a process in which something was unpickled."""


class Outcome(NamedTuple):
    """How a process ended.

    Args:
        code: its exit code; -n if signal n has ended it.
        out: what it wrote to stdout.
        err: what it wrote to stderr.
        hung: whether it was killed, since it took too long.
    """

    code: int
    out: str
    err: str
    hung: bool


class _Child(NamedTuple):
    name: Any
    pid: int
    texts: list[IO[bytes]]
    end: float


def outcomes[T](tasks: Iterable[tuple[T, Path, Callable[[], int]]], seconds: float = 0) -> Iterator[tuple[T, Outcome]]:
    """Calls functions, each in a process of its own.

    Args:
        tasks: for each function a name, the folder in which it is called, and the function, which returns an exit code.
        seconds: the time limit; 0: `SECONDS`.
    """
    waiting, running = iter(tasks), {}
    while True:
        while len(running) < AT_ONCE and (task := next(waiting, None)) is not None:
            name, folder, work = task
            texts = [tempfile.TemporaryFile() for _ in ("stdout", "stderr")]  # noqa: SIM115
            pid = _fork(folder, work, [text.fileno() for text in texts])
            running[os.pidfd_open(pid)] = _Child(name, pid, texts, time.monotonic() + (seconds or SECONDS))
        if not running:
            return
        poll = select.poll()
        for descriptor in running:
            poll.register(descriptor, select.POLLIN)
        first = min(child.end for child in running.values())
        ended = {descriptor for descriptor, _ in poll.poll(1000 * max(0.0, first - time.monotonic()) + 1)}
        for descriptor, child in list(running.items()):
            late = time.monotonic() > child.end and descriptor not in ended
            if late:
                os.kill(child.pid, signal.SIGKILL)
            if late or descriptor in ended:
                code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
                os.close(descriptor)
                del running[descriptor]
                yield child.name, Outcome(code, *map(_text, child.texts), late)


def in_child(work: Callable[[], Any]) -> Outcome:
    """How a process ended that calls a function."""
    return next(outcomes([(None, Path(), lambda: work() and 0)]))[1]


def each(tasks: Iterable[Callable[[], Any]]) -> Iterator[Any]:
    """The results of functions, which JSON can hold. Each is called in a process of its own."""
    works = ((None, Path(), lambda task=task: print(json.dumps(task()))) for task in tasks)
    for _, outcome in outcomes(works, seconds=3600):
        if outcome.code:
            raise RuntimeError(outcome.err)
        yield json.loads(outcome.out.splitlines()[-1])


def in_new_process(work: Callable[..., Any], *args: Any) -> Any:
    """The result of a function of a module, which is called in a new process: one in which JAX has not started."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


def import_all() -> None:
    """Imports what commands import, so that no child has to."""
    from seqjax.cli.command import VERBS
    from seqjax.plugin import registry

    modules = [f"seqjax.cli.{verb}" for verb in VERBS]
    modules += ["matplotlib.pyplot", "seqjax.sweeps.sweeping", "seqjax.diagnostics"]
    modules += ["seqjax.cli.dry_run", "seqjax.training.join", "seqjax.testing.checking", "tensorboardX", "tokenizers"]
    for name in modules:
        importlib.import_module(name)
    for kind in registry.GROUPS:
        for entry in registry.entries(kind):
            registry.load(entry)


def _text(file):
    """What was written to a file, which is closed."""
    with file:
        file.seek(0)
        return file.read().decode("utf-8", "surrogateescape")


def _fork(folder, work, descriptors):
    """Forks a process that calls a function, and returns its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for standard, descriptor in zip((1, 2), descriptors, strict=True):
            os.dup2(descriptor, standard)
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.addaudithook(lambda event, _: event == "pickle.find_class" and os._exit(UNPICKLED))
        os.chdir(folder)
        code = work()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code or 0)
