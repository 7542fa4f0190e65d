"""Joins the processes that were started together, which end together too."""

import atexit
import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from seqjax.errors import Error

JOIN_SECONDS = 120
"""Time in which all processes must have started."""
SILENT_SECONDS = 20
"""Time after which a process that gives no sign of life counts as ended."""
OTHER_ENDED = 7
"""The exit code of a process that ends because another one has ended."""
BY_HAND = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""The environment variables of processes that are started by hand; Slurm sets variables of its own."""

_LOST = re.compile("Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|coordination service")
"""What an exception of JAX says if a collective operation has failed because another process is gone."""
_leaving: list[int] = []
"""The exit code of this process, once it has to end without the others, and the user has been told why."""
_at_abort: list[Any] = []
"""The handler of an abort, kept here because C holds no reference to it."""


def is_by_hand() -> bool:
    """Whether the environment describes processes that are started by hand."""
    return any(name in os.environ for name in BY_HAND[1:])


def started() -> tuple[int, int]:
    """The number of processes that were started together, and the index of this one, from the environment.

    Slurm sets the variables in each task of `srun`. In a script of `sbatch`, outside `srun`, there is one process.

    Raises:
        Error: some of the variables `BY_HAND` are missing or wrong.
    """
    if not is_by_hand():
        return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)), int(os.environ.get("SLURM_PROCID", 0))
    address, count, index = (os.environ.get(name, "") for name in BY_HAND)
    port = re.fullmatch(r".+:(\d+)", address)
    is_good = port and 0 < int(port[1]) < 65536 and count.isdecimal() and index.isdecimal() and int(index) < int(count)
    if not is_good:
        given = ", ".join(f"{name}={os.environ.get(name, '')}" for name in BY_HAND)
        raise Error(
            "several processes need the address of process 0 with a port, their number N, and the index of each, from "
            f"0 to N - 1\nThere is {given}\nSet them such as localhost:12345, 2, 0; or none of them for one process"
        )
    return int(count), int(index)


def join() -> int:
    """Joins the processes that were started together, if there are several. Call it before JAX starts its backend.

    From then on, process 0 alone prints on stdout.

    Returns:
        The number of processes.

    Raises:
        Error: variables of the environment are missing or wrong; the port is in use.
    """
    count, index = started()
    if count == 1:
        return 1
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Otherwise JAX would handle SIGTERM, which could then not end a process before training begins.
    jax.config.update("jax_enable_preemption_service", False)
    _say_at_abort(
        f"the {count} processes of this run did not find each other within {JOIN_SECONDS} seconds; this is process "
        f"{index}\nNothing was written. Start all of them with the same address of process 0, which the others must be "
        "able to reach"
    )
    _initialize(count, index)
    _say_at_abort(
        "JAX has ended this process; the lines above say why, most likely that another process of this run has ended\n"
        + _resumed("its folder")
    )
    atexit.register(_leave_at_once)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # at the exit of Python, JAX would wait for the others
            signal.signal(number, lambda number, _: os._exit(128 + number))
    if index:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return count


def _initialize(count: int, index: int) -> None:
    """Calls `jax.distributed.initialize`, which detects Slurm."""
    address = os.environ["JAX_COORDINATOR_ADDRESS"] if is_by_hand() else None
    if address is None:
        # JAX derives the port from the job alone, so that two steps of a job would have the same.
        step = int(os.environ["SLURM_JOB_ID"]) * 64 + int(os.environ.get("SLURM_STEP_ID", 0))
        os.environ.setdefault("JAX_COORDINATOR_PORT", str(61440 + step % 4096))
    port = address.rpartition(":")[2] if address else os.environ["JAX_COORDINATOR_PORT"]
    try:
        if index == 0:  # JAX would share a port that is in use, and the processes of two runs would meet
            socket.create_server(("", int(port))).close()
        jax.distributed.initialize(
            address,
            count,
            index,
            local_device_ids=_own_gpus(),
            cluster_detection_method="deactivate" if address else "slurm",
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=SILENT_SECONDS,
            shutdown_timeout_seconds=SILENT_SECONDS,
        )
    except (OSError, jax.errors.JaxRuntimeError) as fault:
        raise Error(
            f"process {index} of {count} cannot join the others at port {port}: {fault}\nIf the port is in use, choose "
            "another one: in JAX_COORDINATOR_ADDRESS, or with Slurm in JAX_COORDINATOR_PORT"
        ) from fault


def _own_gpus() -> list[int] | None:
    """The GPUs of this process, if Slurm gives it GPUs of its own; None: the one with its index on the host.

    By hand, None means all GPUs.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    is_own = "SLURM_GPUS_PER_TASK" in os.environ or num_on_this_host() == 1
    if is_by_hand() or not visible or not is_own or "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return None
    return list(range(len(visible.split(","))))


def num_on_this_host() -> int:
    """The number of processes of this run that share the CPU cores of this host, as far as the environment says."""
    count, _ = started()
    if count > 1 and is_by_hand():
        return count if re.match(r"localhost:|127\.", os.environ["JAX_COORDINATOR_ADDRESS"]) else 1
    if count > 1:  # such as 2(x3),1 for four hosts
        tasks = re.findall(r"(\d+)(?:\(x(\d+)\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1"))
        return [int(n) for n, times in tasks for _ in range(int(times or 1))][int(os.environ.get("SLURM_NODEID", 0))]
    return 1


def check_alone(what: str, count: int) -> None:
    """Raises an `Error` if `what`, which is for one process, is started in this number of processes."""
    if count > 1:
        raise Error(
            f"{what} is for one process, but {count} were started together\n"
            "Start it once, outside srun and without JAX_NUM_PROCESSES; seqjax run trains one run in several processes"
        )


@contextlib.contextmanager
def ending_together(path: Path | None) -> Iterator[None]:
    """A context in which the end of another process raises an `Error` with exit code `OTHER_ENDED`.

    Args:
        path: the folder of the run, for the message.
    """
    try:
        yield
    except Exception as fault:
        if jax.process_count() == 1 or getattr(fault, "in_all", False):
            raise
        # Whether it is a ValueError or a JaxRuntimeError depends on when JAX notices it.
        is_lost = isinstance(fault, ValueError | jax.errors.JaxRuntimeError) and _LOST.search(str(fault))
        if isinstance(fault, Error) or not is_lost:  # this process alone has failed
            _leaving.append(getattr(fault, "exit_code", 1))
            raise
        _leaving.append(OTHER_ENDED)
        then = "It was in memory, and is lost" if path is None else _resumed(path)
        message = f"another process of this run has ended, so this one ends too\n{then}"
        raise Error(message, exit_code=OTHER_ENDED) from fault


def _resumed(where: object) -> str:
    return f"The run is saved up to its last checkpoint in {where}; the same command in all processes resumes it"


def _leave_at_once() -> None:
    """At exit, skips JAX's shutdown barrier if the other processes go on: JAX would wait for them, and then abort."""
    if _leaving:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed, or its reader has gone
                stream.flush()
        os._exit(_leaving[0])


def _say_at_abort(message: str) -> None:
    """Makes an abort print this message and end the process with `OTHER_ENDED`.

    JAX aborts a process from C++ when it loses the others. A handler of the module `signal` is called only after the C
    function has returned, and `abort` does not return.
    """

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def say(_):
        if not _leaving:
            os.write(2, f"seqjax: {message}\n".encode())
        os._exit(OTHER_ENDED)

    _at_abort[:] = [say]
    ctypes.CDLL(None).signal(signal.SIGABRT, say)
