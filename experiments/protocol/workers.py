"""Computes stages in other processes, one for each core.

A worker is this script again, with the option `--worker`. Its input is a socket. It reads the number of a stage from
the socket, computes it, and answers there with a line. The socket is closed when the process that started it ends,
however that happens, and so the worker ends too. What a strategy prints goes to stderr, and what it reads is
empty.
"""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping

import seqjax as sj

STDIN, STDERR = 0, 2
"""The descriptors of a process."""


def cores() -> list[int]:
    """The cores that this process may use; empty where the system cannot tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(core: int) -> None:
    """Lets this process use one core, where the system can do that. Call it before JAX computes something."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def compute_all(stages: Mapping[int, str], jobs: int, report: Callable[[int], None]) -> None:
    """Computes stages in `jobs` processes.

    Args:
        stages: number -> name; each process takes the next one.
        jobs: the number of processes.
        report: is called with the number of each stage that is done.

    Raises:
        Error: a worker ended with an error; the other ones finish the stage at which they are.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in stages:
        waiting.put(number)
    failed: dict[str, int] = {}
    known = cores()

    def serve(job: int) -> None:
        core = known[job % len(known)] if known else 0
        command = [sys.executable, *sys.argv, "--worker", str(core)]
        ours, theirs = socket.socketpair()
        # The worker ends when the socket is closed, and then the outer context ends. It is in a session of its own, so
        # that Ctrl-C reaches this process alone, and is not printed by each worker.
        with (
            subprocess.Popen(command, stdin=theirs, stdout=STDERR, start_new_session=True) as worker,
            ours,
            ours.makefile() as answers,
        ):
            theirs.close()
            while not failed:
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    break
                with contextlib.suppress(OSError):  # it has ended
                    ours.sendall(f"{number}\n".encode())
                if answers.readline() != f"{number}\n":
                    failed[stages[number]] = worker.wait()
                    break
                report(number)

    threads = [threading.Thread(target=serve, args=(job,), daemon=True) for job in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        ends = [f"{name}: {_end(code)}" for name, code in failed.items()]
        raise sj.Error(
            "a stage failed; all results so far are kept. Correct the cause, and type the same command again:",
            problems=ends,
        )


def _end(code: int) -> str:
    """Why a worker has ended, by its exit code."""
    if code < 0:
        return (
            f"its process was ended by the signal {signal.Signals(-code).name}. If that was the system, the memory was "
            "too small: give --jobs 1"
        )
    return (
        "its error is printed above. If a strategy is the cause, `seqjax check gradient NAME` shows what is wrong with "
        "it"
    )


def serve_stages(core: int, compute: Callable[[int], None]) -> None:
    """The worker: computes the stages whose numbers it reads, and ends at once when its input ends.

    Its input ends when all stages are computed, or when the process that started it was killed. In the second case a
    worker that went on would share its core with one of the next command.

    Args:
        core: the core on which it runs.
        compute: computes the stage of a number.
    """
    pin(core)
    channel = socket.socket(fileno=os.dup(STDIN))
    # What the code of a strategy reads is empty, so that no number is lost to it.
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), STDIN)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()

    def read() -> None:
        for line in channel.makefile():
            waiting.put(int(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        number = waiting.get()
        compute(number)
        channel.sendall(f"{number}\n".encode())
