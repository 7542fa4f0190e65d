"""`Launcher`: a plugin that starts the runs of a sweep, each with a command line."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from seqjax.plugin.author import Mistake, mistakes_of
from seqjax.plugin.base import Plugin
from seqjax.plugin.registry import name_of


class Job(NamedTuple):
    """A command line that makes or resumes one run.

    Args:
        name: the name of the run in its sweep.
        command: the program and its arguments. It has to be started in the current folder.
        log: the file to which stdout and stderr are appended. A launcher may hand it to the command locked by `flock`:
            then the run counts as running until the command has ended, even if the launcher has ended before.
        code: the file into which the launcher writes the exit code of the command as a decimal number, 128 + n if
            signal n ended it.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    code: Path


class Launcher(Plugin):
    """Starts the runs of a sweep. The author writes `launch`, and `alive` if it returns before its jobs end.

    It is not part of an experiment: it does not change a result, and the config of a run does not name it. A command
    that gets SIGTERM, SIGHUP or SIGUSR1 saves its run, and the same command resumes it.

    >>> import subprocess, sys, tempfile
    >>> from dataclasses import dataclass
    >>> from pathlib import Path
    >>> import seqjax as sj
    >>> from seqjax.sweeps import Job
    >>> @dataclass(frozen=True)
    ... class Here(sj.Launcher):
    ...     def launch(self, jobs, show_progress):
    ...         for job in jobs:
    ...             with job.log.open("a") as log:
    ...                 done = subprocess.run(job.command, stdout=log, stderr=log)
    ...             job.code.write_text(str(done.returncode))
    ...         return {}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log, code = Path(folder, "log"), Path(folder, "code")
    ...     ids = Here().launch([Job("a", (sys.executable, "-c", "print('trained')"), log, code)], lambda: None)
    ...     print(ids, log.read_text().strip(), code.read_text())
    {} trained 0
    """

    kind: ClassVar[str] = "launcher"

    def launch(self, jobs: Sequence[Job], show_progress: Callable[[], None]) -> Mapping[str, str]:
        """Starts jobs.

        Args:
            jobs: the jobs, which are independent of each other. At least one.
            show_progress: a launcher that waits for its jobs calls it several times a second. It raises an exception
                when the user interrupts the sweep; then the launcher ends its jobs with SIGTERM, and waits for them.

        Returns:
            Name of a job -> the id by which `alive` knows it. A launcher that waits for its jobs returns {}.
        """
        raise NotImplementedError

    def alive(self, ids: Iterable[str]) -> Mapping[str, Literal["queued", "running"]]:
        """The state of each job that has not ended, by id.

        Args:
            ids: what `launch` returned, perhaps in another process, and perhaps long ago.
        """
        return {}


def start(launcher: Launcher, jobs: Sequence[Job], show_progress: Callable[[], None]) -> dict[str, str]:
    """Starts jobs, and returns what `launch` does.

    Raises:
        Error: what `launch` raises; a `Mistake` if it is no `Error`, or if it returns something else.
    """
    with mistakes_of(launcher):
        ids: Any = launcher.launch(jobs, show_progress)
    names = {job.name for job in jobs}
    if not isinstance(ids, Mapping) or not all(name in names and isinstance(ids[name], str) for name in ids):
        raise Mistake(
            f"launcher {name_of(launcher)}: launch returned {ids!r:.80}, and must return a dict: name of a job -> id, "
            "which is a str; {} if it has waited for the jobs"
        )
    return dict(ids)


def still_alive(launcher: Launcher, ids: Sequence[str]) -> dict[str, str]:
    """The state of each job that has not ended, by id: what `Launcher.alive` returns.

    Raises:
        Error: what `alive` raises; a `Mistake` if it is no `Error`, or if it returns something else.
    """
    with mistakes_of(launcher):
        states: Any = launcher.alive(ids)
    if not isinstance(states, Mapping) or not all(state in ("queued", "running") for state in states.values()):
        raise Mistake(
            f"launcher {name_of(launcher)}: alive returned {states!r:.80}, and must return a dict: id -> 'queued' or "
            "'running'"
        )
    return dict(states)
