"""The launcher background."""

import subprocess
from dataclasses import dataclass

import seqjax

SCRIPT = """
code=$1 log=$2
shift 2
{
    trap : TERM  # the command gets SIGTERM, and the shell still writes its exit code
    "$@"
    echo $? >"$code.part"
    mv "$code.part" "$code"
} </dev/null >>"$log" 2>&1 &
"""
"""A shell that starts a command, and ends at once. Its child waits for the command."""


@seqjax.register("launcher", "background")
@dataclass(frozen=True)
class Background(seqjax.Launcher):
    """Starts all jobs at a time on this machine, and does not wait. They go on when the user has logged out."""

    def launch(self, jobs, show_progress):
        """The id of a job is the path of its exit code, which is in the command line of its shell."""
        ids = {job.name: str(job.code.absolute()) for job in jobs}
        for job in jobs:
            command = ["sh", "-c", SCRIPT, "seqjax-job", ids[job.name], str(job.log.absolute()), *job.command]
            subprocess.run(command, check=True, start_new_session=True)  # without a terminal
        return ids

    def alive(self, ids):
        """The jobs whose shell is running."""
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "stat=,args="], check=True, capture_output=True, text=True)
        # A zombie, with the state Z, has ended.
        shells = [line for line in listed.stdout.splitlines() if "seqjax-job" in line and not line.startswith("Z")]
        return {id_: "running" for id_ in ids if any(f"seqjax-job {id_} " in shell for shell in shells)}
