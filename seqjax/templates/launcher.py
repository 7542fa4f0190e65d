"""The launcher my-launcher."""

import subprocess
import time
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

import seqjax


@seqjax.register("launcher", "my-launcher")
@dataclass(frozen=True)
class MyLauncher(seqjax.Launcher):
    """Runs the jobs one after another on this machine, with a low priority."""

    nice: Annotated[int, Interval(ge=0, le=19)] = 10
    """By how much the priority is lowered, as the program nice does."""

    def launch(self, jobs, show_progress):
        """Starts the next job when the last one has ended, and waits for all of them.

        A launcher for a cluster returns at once, with the ids of its jobs, and has a method `alive`, as
        `seqjax_launchers.Slurm` does.
        """
        for job in jobs:
            with job.log.open("ab") as log:
                # A session of its own: Ctrl-C of the terminal reaches this process alone, which then ends the job.
                process = subprocess.Popen(
                    ["nice", "-n", str(self.nice), *job.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                while process.poll() is None:
                    show_progress()
                    time.sleep(0.1)
            finally:
                process.terminate()  # show_progress has raised; if the job has ended, nothing happens
                code = process.wait()
                job.code.write_text(f"{code if code >= 0 else 128 - code}\n")
        return {}
