"""The launcher that submits jobs to Slurm."""

import re
import shlex
import subprocess
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from seqjax import Error, Launcher, register

SCRIPT = """#!/bin/bash
# Each task of the array makes or resumes one run. `srun` starts it, so that Slurm sends signals to the run itself:
# SIGTERM when the job is preempted, and SIGUSR1 before its time is over. The run then saves its state and ends.

case $SLURM_ARRAY_TASK_ID in
{cases}
esac
step=(srun --ntasks=1 --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" --open-mode=append --output="${{log//%/%%}}")
rm -f "$code"

# Slurm sends SIGTERM to this shell too, which must not end before the run has saved its state.
trap : TERM
"${{step[@]}}" "${{run[@]}}" &
wait $!
ended=$?
# `wait` returns at once when the trap runs. Waiting again gives the exit code of the run.
while kill -0 $! 2>/dev/null; do
    wait $!
    ended=$?
done
echo $ended >"$code"

# A preempted job that ends is queued again by Slurm. One whose time is over is not: it is queued again here.
if [[ $ended == 138 ]]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit $ended
"""
"""The script of a job array. 138 is the exit code of a run that SIGUSR1 has interrupted, 128 + 10."""

RUNNING = ("CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "COMPLETING")
"""Slurm's states of a job that has its machines. A job in any other state that squeue lists waits for them."""


@register("launcher", "slurm")
@dataclass(frozen=True)
class Slurm(Launcher):
    """Submits the runs to Slurm as one job array, and returns at once; `seqjax status` shows how far they are.

    When a job is preempted, or shortly before its time is over, its run is saved and the job is queued again. It goes
    on with the same result. The folder of the sweep has to be on a disk that all machines share.
    """

    partition: str | None = None
    """The partition; None: the default one of the cluster."""
    time: str | None = None
    """The time limit of each job, such as 2:00:00; None: the limit of the partition."""
    memory: str | None = None
    """The memory of each job, such as 8G; None: the default of the cluster."""
    cpus: Annotated[int, Interval(ge=1)] = 1
    """The number of CPUs of each job."""
    gpus: Annotated[int, Interval(ge=0)] = 0
    """The number of GPUs of each job."""
    notice: Annotated[int, Interval(ge=1)] = 120
    """The time that a run has for saving its state before the time limit, in seconds. Slurm may signal it up to one
    minute earlier."""
    options: tuple[str, ...] = ()
    """Further options of sbatch, such as --account=mine."""

    def __post_init__(self):
        super().__post_init__()
        seconds = _seconds(self.time or "")
        if seconds and seconds <= self.notice:  # 0 is no limit
            raise Error(
                f"launcher slurm: time = {self.time} is {seconds} seconds, and notice = {self.notice}: each run would "
                "be interrupted before it begins\nGive the jobs more time, or set --launcher.notice to fewer seconds"
            )

    def launch(self, jobs, show_progress):
        """Submits an array with a task for each job."""
        folder = jobs[0].log.parent.absolute()  # made absolute here, since Slurm would add a folder that is not escaped
        if "\\" in str(folder):
            raise Error(
                f"launcher slurm: {folder} has a backslash; Slurm drops each backslash from the name of a file, and "
                "would write elsewhere; choose another folder"
            )
        cases = "\n".join(f"{n}) {_variables(job)} ;;" for n, job in enumerate(jobs))
        script = folder / "slurm.sh"
        script.write_text(SCRIPT.format(cases=cases))
        asked = {
            "partition": self.partition,
            "time": self.time,
            "mem": self.memory,
            "cpus-per-task": self.cpus,
            "gpus": self.gpus or None,
            "array": f"0-{len(jobs) - 1}",
            "job-name": folder.resolve().parent.name,
            "signal": f"USR1@{self.notice}",
            "open-mode": "append",
            # What Slurm itself says of the tasks. The name is escaped, since Slurm replaces `%a` and the like.
            "output": str(folder / "slurm.txt").replace("%", "%%"),
        }
        options = [f"--{name}={value}" for name, value in asked.items() if value is not None]
        said = _call(["sbatch", "--parsable", "--requeue", *options, *self.options, str(script)])
        array = said.strip().partition(";")[0]  # the name of a cluster may follow
        return {job.name: f"{array}_{n}" for n, job in enumerate(jobs)}

    def alive(self, ids):
        """Asks squeue which jobs have not ended."""
        arrays = sorted({id_.partition("_")[0] for id_ in ids})
        if not arrays:
            return {}
        try:
            said = _call(["squeue", "--noheader", "--array", f"--jobs={','.join(arrays)}", "--format=%F_%K|%T"])
        except Error as fault:
            if "Invalid job id" in str(fault):  # Slurm forgets jobs some minutes after their end
                return {}
            raise
        state_of = dict(line.split("|") for line in said.split())
        return {id_: "running" if state_of[id_] in RUNNING else "queued" for id_ in ids if id_ in state_of}


def _seconds(time: str) -> int | None:
    """A time limit of Slurm in seconds; None if it is malformed, which sbatch then reports.

    The formats are minutes, minutes:seconds, hours:minutes:seconds, and days before a dash, which hours follow.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+(?::\d+){0,2})", time)
    if not match:
        return None
    days, numbers = int(match[1] or 0), [int(number) for number in match[2].split(":")]
    if match[1] is None and len(numbers) < 3:
        numbers = [0, *numbers]  # the hours are left out
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _variables(job):
    """The variables of the script for a job: its command line and its files, wherever Slurm starts it."""
    log, code = (shlex.quote(str(file.absolute())) for file in (job.log, job.code))
    return f"run=({shlex.join(job.command)}) log={log} code={code}"


def _call(command):
    """The output of a command of Slurm."""
    try:
        # A session of its own: Ctrl-C of the terminal reaches this process alone, which then still learns the ids.
        done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    except FileNotFoundError as fault:
        raise Error(f"{command[0]} was not found: launcher slurm needs a machine of a Slurm cluster") from fault
    if done.returncode:
        raise Error(f"{shlex.join(command)}\n{done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
