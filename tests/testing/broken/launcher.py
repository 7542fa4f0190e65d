"""Launchers that are wrong. `wrong` is told which checks must find it."""

import contextlib
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar

from support.wrong import wrong

import seqjax


def start(job, command=None, **options):
    """Starts a job as it has to be."""
    with job.log.open("ab") as log:
        options = {"stdout": log, "stderr": log, "start_new_session": True} | options
        return subprocess.Popen(command or job.command, **options)


class OneAfterAnother(seqjax.Launcher):
    """A correct launcher, from which others are derived."""

    stop = staticmethod(subprocess.Popen.terminate)

    def start(self, job):
        return start(job)

    def write(self, job, code):
        job.code.write_text(f"{code if code >= 0 else 128 - code}\n")

    def launch(self, jobs, show_progress):
        for job in jobs:
            process = self.start(job)
            try:
                while process.poll() is None:
                    show_progress()
                    time.sleep(0.05)
            finally:
                self.stop(process)
                self.write(job, process.wait())
        return {}


class Background(seqjax.Launcher):
    """A launcher that does not wait. The id of a job is the path of its exit code, which a shell writes."""

    def launch(self, jobs, show_progress):
        for job in jobs:
            code = shlex.quote(str(job.code))
            self.start(job, f"{shlex.join(job.command)}; echo $? >{code}.part; mv {code}.part {code}")
        return {job.name: str(job.code) for job in jobs}

    def start(self, job, line):
        # The shell that is waited for ends at once, and its child goes on.
        start(job, ["sh", "-c", f"({line}) &"]).wait()

    def alive(self, ids):
        return {id_: "running" for id_ in ids if id_.endswith(".code") and not Path(id_).exists()}


@wrong("launcher", "launch")
class WritesNoCode(OneAfterAnother):
    """It leaves the exit codes out."""

    write = staticmethod(lambda job, code: None)


@wrong("launcher", "once, in the current folder", "log")
class StartsAgain(OneAfterAnother):
    """It starts a job a second time after it has ended."""

    def launch(self, jobs, show_progress):
        return super().launch([job for job in jobs for _ in (1, 2)], show_progress)


@wrong("launcher", "once, in the current folder")
class InAnotherFolder(OneAfterAnother):
    """It starts jobs in a folder of its own."""

    def start(self, job):
        return start(job, cwd=tempfile.gettempdir())


@wrong("launcher", "log")
class ReplacesTheLog(OneAfterAnother):
    """What an earlier start has printed is lost."""

    def start(self, job):
        job.log.write_text("")
        return start(job)


@wrong("launcher", "exit codes")
class MinusTheSignal(OneAfterAnother):
    """It writes the exit code as subprocess reports it."""

    write = staticmethod(lambda job, code: job.code.write_text(f"{code}"))


@wrong("launcher", "arguments")
class SplitsAtSpaces(OneAfterAnother):
    """It makes one text of a command, and splits it again."""

    def start(self, job):
        return start(job, " ".join(job.command).split())


@wrong("launcher", "progress", "interruption")
class ProgressBetweenJobs(OneAfterAnother):
    """It calls show_progress before each job and after the last one."""

    def launch(self, jobs, show_progress):
        for job in jobs:
            show_progress()
            self.write(job, self.start(job).wait())
        show_progress()
        return {}


@wrong("launcher", "interruption")
class Kills(OneAfterAnother):
    """It ends jobs with SIGKILL, so that they cannot save their runs."""

    stop = staticmethod(subprocess.Popen.kill)


@wrong("launcher", "interruption")
class SwallowsTheInterruption(OneAfterAnother):
    """The sweep goes on after Ctrl-C."""

    def launch(self, jobs, show_progress):
        with contextlib.suppress(KeyboardInterrupt):
            super().launch(jobs, show_progress)
        return {}


@wrong("launcher", "alive of unknown jobs")
class KnowsEveryJob(OneAfterAnother):
    """Its `alive` calls every job queued."""

    def alive(self, ids):
        return dict.fromkeys(ids, "queued")


@wrong("launcher", "alive of running jobs")
class KnowsItsOwnJobs(Background):
    """Only the process that has started a job knows it."""

    started: ClassVar = set()

    def launch(self, jobs, show_progress):
        ids = super().launch(jobs, show_progress)
        KnowsItsOwnJobs.started.update(ids.values())
        return ids

    def alive(self, ids):
        return super().alive(set(ids) & KnowsItsOwnJobs.started)
