"""Starts the processes of one run, and ends one of them in the middle of training."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

DRIVER = """
import os, sys
from seqjax.cli import main
from seqjax.report import plot
from seqjax.runs import listen
from seqjax.training import feed, join
from support.crash import NoFigure

feed.CHUNK_STEPS = 80
plot.history = NoFigure
join.JOIN_SECONDS = int(os.environ.get("JOIN_SECONDS", 60))
take, chunks = listen.Training.take, []


def counted(self, outcome):
    ended = take(self, outcome)
    chunks.append(outcome)
    if len(chunks) == int(os.environ.get("SIGNAL_AFTER", 0)):
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))
    return ended


listen.Training.take = counted
sys.exit(main(sys.argv[1:]))
"""
"""The command line with small chunks, which sends itself a signal after a number of them."""


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def by_hand(index, count, port) -> dict[str, str]:
    return {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(index),
    }


def by_srun(index, count, port) -> dict[str, str]:
    """What `srun` sets in a task of a step on this machine."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_TASKS_PER_NODE": str(count),
        "SLURM_NTASKS": str(count),
        "SLURM_NODEID": "0",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
        "JAX_COORDINATOR_PORT": str(port),
    }


def start(command, folders, *, variables=by_hand, shares=None, **env) -> list[subprocess.Popen]:
    """Starts a command in several processes with one device each.

    Args:
        command: the arguments of Python.
        folders: the working folder of each process.
        variables: how the processes find each other, `by_hand` or `by_srun`.
        shares: further arguments and variables of each process, as (list, dict).
        env: further variables of all of them.
    """
    port = free_port()
    found = []
    for n, folder in enumerate(folders):
        more, own = (shares or {}).get(n, ([], {}))
        together = variables(n, len(folders), port) | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(TESTS)}
        found.append(
            subprocess.Popen(
                [sys.executable, *map(str, [*command, *more])],
                cwd=folder,
                env=os.environ | together | env | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return found


def finish(started, timeout=240) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each process; an error after `timeout` seconds."""
    with contextlib.ExitStack() as ended:
        for process in started:
            ended.enter_context(process)
            ended.callback(process.kill)
        written = [process.communicate(timeout=timeout) for process in started]
        return [(process.returncode, *texts) for process, texts in zip(started, written, strict=True)]


def sends(number: signal.Signals, after: int):
    """The variables of a process that sends itself a signal after this number of chunks."""
    return [], {"SIGNAL": str(int(number)), "SIGNAL_AFTER": str(after)}
