"""The launcher that starts processes on this machine."""

import collections
import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Interval

from seqjax import Launcher, register


@register("launcher", "local")
@dataclass(frozen=True)
class Local(Launcher):
    """Runs several jobs at a time on this machine, each on its share of the cores, and waits for all of them.

    Small models leave most cores idle, so that several trainings at a time take less time than one after the other.
    """

    jobs: Annotated[int, Interval(ge=1)] | None = None
    """The number of jobs at a time; None: one for each core. It decides how many cores, and so how many devices, a run
    has. A run resumes with as many devices as before: give the same number again."""

    def launch(self, jobs, show_progress):
        """Starts the next job whenever one has ended."""
        cores = own_cores()
        count = self.jobs or len(cores)
        # The share does not depend on the number of jobs: a run that goes on has to have as many devices as before.
        size = max(1, len(cores) // count)
        free = [[cores[i % len(cores)] for i in range(n * size, (n + 1) * size)] for n in range(min(count, len(jobs)))]
        waiting, running = collections.deque(jobs), dict[Any, Any]()
        try:
            while waiting or running:
                while waiting and free:
                    job, share = waiting.popleft(), free.pop()
                    running[_start(job, share)] = job, share
                for process in [process for process in running if process.poll() is not None]:
                    job, share = running.pop(process)
                    _write_code(job, process)
                    free.append(share)
                show_progress()
                time.sleep(0.1)
        finally:
            for process in running:  # the user has interrupted the sweep
                process.terminate()
            for process, (job, _) in running.items():
                process.wait()
                _write_code(job, process)
        return {}


def own_cores():
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _start(job, cores):
    """Starts the command of a job on these cores."""
    env = {"JAX_NUM_CPU_DEVICES": str(len(cores)), **os.environ}
    with job.log.open("ab") as log, affinity(cores):
        fcntl.flock(log, fcntl.LOCK_EX)  # the process has the lock too, and the run counts as running while it has
        # A session of its own: Ctrl-C of the terminal reaches this process alone, which then ends the jobs.
        return subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=env
        )


@contextlib.contextmanager
def affinity(cores: Iterable[int]) -> Iterator[None]:
    """A context in which a new process gets these cores: it inherits the affinity of the thread that starts it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _write_code(job, process):
    """Writes the exit code, 128 + n if signal n has ended the process."""
    code = process.returncode
    job.code.write_text(f"{code if code >= 0 else 128 - code}\n")
