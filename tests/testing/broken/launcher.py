"""Launchers that are wrong. `rejected_by` names the check that must find it."""

import shlex
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import seqjax


def start(job, command=None, **options):
    """Starts a job as it has to be."""
    with job.log.open("ab") as log:
        options = {"stdout": log, "stderr": log, "start_new_session": True} | options
        return subprocess.Popen(command or job.command, **options)


def write_code(job, code):
    """Writes the exit code as it has to be."""
    job.code.write_text(f"{code if code >= 0 else 128 - code}\n")


class OneAfterAnother(seqjax.Launcher):
    """A correct launcher, from which others are derived."""

    def start(self, job):
        return start(job)

    def launch(self, jobs, show_progress):
        for job in jobs:
            process = self.start(job)
            try:
                while process.poll() is None:
                    show_progress()
                    time.sleep(0.05)
            finally:
                process.terminate()
                write_code(job, process.wait())
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


@seqjax.register("launcher", "returns-none")
@dataclass(frozen=True)
class ReturnsNone(OneAfterAnother):
    """It returns nothing."""

    rejected_by: ClassVar = {"launch"}

    def launch(self, jobs, show_progress):
        super().launch(jobs, show_progress)


@seqjax.register("launcher", "writes-no-code")
@dataclass(frozen=True)
class WritesNoCode(seqjax.Launcher):
    """It leaves the exit codes out."""

    rejected_by: ClassVar = {"launch"}

    def launch(self, jobs, show_progress):
        processes = [start(job) for job in jobs]
        while any(process.poll() is None for process in processes):
            show_progress()
            time.sleep(0.05)
        return {}


@seqjax.register("launcher", "shows-no-progress")
@dataclass(frozen=True)
class ShowsNoProgress(seqjax.Launcher):
    """It waits, and does not call show_progress."""

    rejected_by: ClassVar = {"launch"}

    def launch(self, jobs, show_progress):
        for job in jobs:
            write_code(job, start(job).wait())
        return {}


@seqjax.register("launcher", "as-many-as-there-are-cores")
@dataclass(frozen=True)
class AsManyAsThereAreCores(OneAfterAnother):
    """It starts two jobs, and leaves the others out."""

    rejected_by: ClassVar = {"once, in the current folder", "exit codes", "arguments"}

    def launch(self, jobs, show_progress):
        return super().launch(jobs[:2], show_progress)


@seqjax.register("launcher", "starts-again")
@dataclass(frozen=True)
class StartsAgain(OneAfterAnother):
    """It starts a job a second time after it has ended."""

    rejected_by: ClassVar = {"once, in the current folder", "log"}

    def launch(self, jobs, show_progress):
        return super().launch([job for job in jobs for _ in (1, 2)], show_progress)


@seqjax.register("launcher", "in-another-folder")
@dataclass(frozen=True)
class InAnotherFolder(OneAfterAnother):
    """It starts jobs in a folder of its own."""

    rejected_by: ClassVar = {"once, in the current folder"}

    def start(self, job):
        return start(job, cwd=tempfile.gettempdir())


@seqjax.register("launcher", "replaces-the-log")
@dataclass(frozen=True)
class ReplacesTheLog(OneAfterAnother):
    """What an earlier start has printed is lost."""

    rejected_by: ClassVar = {"log"}

    def start(self, job):
        job.log.write_text("")
        return start(job)


@seqjax.register("launcher", "drops-stderr")
@dataclass(frozen=True)
class DropsStderr(OneAfterAnother):
    """Error messages of jobs are lost."""

    rejected_by: ClassVar = {"log"}

    def start(self, job):
        return start(job, stderr=subprocess.DEVNULL)


@seqjax.register("launcher", "minus-the-signal")
@dataclass(frozen=True)
class MinusTheSignal(OneAfterAnother):
    """It writes the exit code as subprocess reports it."""

    rejected_by: ClassVar = {"exit codes"}

    def launch(self, jobs, show_progress):
        for job in jobs:
            process = start(job)
            try:
                while process.poll() is None:
                    show_progress()
                    time.sleep(0.05)
            finally:
                process.terminate()
                job.code.write_text(f"{process.wait()}")
        return {}


@seqjax.register("launcher", "splits-at-spaces")
@dataclass(frozen=True)
class SplitsAtSpaces(OneAfterAnother):
    """It makes one text of a command, and splits it again."""

    rejected_by: ClassVar = {"arguments"}

    def start(self, job):
        return start(job, " ".join(job.command).split())


@seqjax.register("launcher", "progress-between-jobs")
@dataclass(frozen=True)
class ProgressBetweenJobs(seqjax.Launcher):
    """It calls show_progress before each job and after the last one."""

    rejected_by: ClassVar = {"progress", "interruption"}

    def launch(self, jobs, show_progress):
        for job in jobs:
            show_progress()
            write_code(job, start(job).wait())
        show_progress()
        return {}


@seqjax.register("launcher", "kills")
@dataclass(frozen=True)
class Kills(OneAfterAnother):
    """It ends jobs with SIGKILL, so that they cannot save their runs."""

    rejected_by: ClassVar = {"interruption"}

    def launch(self, jobs, show_progress):
        for job in jobs:
            process = start(job)
            try:
                while process.poll() is None:
                    show_progress()
                    time.sleep(0.05)
            finally:
                process.kill()
                write_code(job, process.wait())
        return {}


@seqjax.register("launcher", "leaves-jobs-alone")
@dataclass(frozen=True)
class LeavesJobsAlone(seqjax.Launcher):
    """It ends jobs, and does not wait for them."""

    rejected_by: ClassVar = {"interruption"}

    def launch(self, jobs, show_progress):
        for job in jobs:
            process = start(job)
            try:
                while process.poll() is None:
                    show_progress()
                    time.sleep(0.05)
            except KeyboardInterrupt:
                process.terminate()
                threading.Thread(target=process.wait).start()
                raise
            write_code(job, process.wait())
        return {}


@seqjax.register("launcher", "swallows-the-interruption")
@dataclass(frozen=True)
class SwallowsTheInterruption(OneAfterAnother):
    """The sweep goes on after Ctrl-C."""

    rejected_by: ClassVar = {"interruption"}

    def launch(self, jobs, show_progress):
        try:
            return super().launch(jobs, show_progress)
        except KeyboardInterrupt:
            return {}


@seqjax.register("launcher", "knows-every-job")
@dataclass(frozen=True)
class KnowsEveryJob(OneAfterAnother):
    """Its `alive` calls every job queued."""

    rejected_by: ClassVar = {"alive of unknown jobs"}

    def alive(self, ids):
        return dict.fromkeys(ids, "queued")


@seqjax.register("launcher", "knows-its-own-jobs")
@dataclass(frozen=True)
class KnowsItsOwnJobs(Background):
    """Only the process that has started a job knows it."""

    rejected_by: ClassVar = {"alive of running jobs"}
    started: ClassVar = set()

    def launch(self, jobs, show_progress):
        ids = super().launch(jobs, show_progress)
        KnowsItsOwnJobs.started.update(ids.values())
        return ids

    def alive(self, ids):
        return super().alive(set(ids) & KnowsItsOwnJobs.started)


@seqjax.register("launcher", "does-not-ask")
@dataclass(frozen=True)
class DoesNotAsk(Background):
    """It returns ids, and has no `alive`, so that its jobs seem to have ended."""

    rejected_by: ClassVar = {"alive of running jobs"}

    alive = seqjax.Launcher.alive
