"""The environment says how many processes were started together, and what each of them may use."""

import os

import pytest

from seqjax import Error
from seqjax.training import join
from seqjax.training.devices import num_cores


@pytest.fixture
def clean(monkeypatch):
    """No variable of a process that was started with others."""
    for name in list(os.environ):
        if name.startswith("SLURM_") or name in join.BY_HAND:
            monkeypatch.delenv(name)
    return monkeypatch


def test_the_environment_says_how_many_were_started(clean):
    assert join.started() == (1, 0)
    clean.setenv("SLURM_JOB_ID", "7")
    clean.setenv("SLURM_NTASKS", "2")  # a script of sbatch, outside srun
    clean.setenv("SLURM_PROCID", "0")
    assert join.started() == (1, 0)
    clean.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert join.started() == (1, 0)
    clean.setenv("SLURM_STEP_NUM_TASKS", "4")
    clean.setenv("SLURM_PROCID", "3")
    assert join.started() == (4, 3)
    for name, value in zip(join.BY_HAND, ("localhost:12345", "2", "1"), strict=True):
        clean.setenv(name, value)
    assert join.started() == (2, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        *(("", "2", "1"), ("host:1", "2", ""), ("host:1", "", "0"), ("host:1", "2", "2"), ("host", "2", "0")),
        *(("host:0", "2", "0"), ("host:65536", "2", "0")),
    ],
)
def test_incomplete_variables_are_an_error_that_shows_them(clean, wrong):
    for name, value in zip(join.BY_HAND, wrong, strict=True):
        clean.setenv(name, value)
    given = "JAX_COORDINATOR_ADDRESS={}, JAX_NUM_PROCESSES={}, JAX_PROCESS_ID={}".format(*wrong)
    with pytest.raises(Error, match=f"\nThere is {given}\n"):
        join.started()


def test_processes_of_one_host_share_its_cores(clean):
    clean.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert num_cores() == 8
    clean.setenv("SLURM_CPUS_PER_TASK", "2")
    assert num_cores() == 2  # those of the job, although it sees more
    clean.setenv("SLURM_STEP_NUM_TASKS", "5")
    clean.setenv("SLURM_PROCID", "4")
    clean.setenv("SLURM_NODEID", "1")
    clean.setenv("SLURM_STEP_TASKS_PER_NODE", "1,4")
    assert num_cores() == 2
    clean.setenv("SLURM_CPUS_PER_TASK", "20")
    assert num_cores() == 8
    clean.delenv("SLURM_CPUS_PER_TASK")
    assert num_cores() == 2
    clean.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x5)")
    assert num_cores() == 8
    clean.setenv("SLURM_STEP_TASKS_PER_NODE", "2(x2),16")
    clean.setenv("SLURM_NODEID", "2")
    assert num_cores() == 1
    for name, value in zip(join.BY_HAND, ("localhost:12345", "2", "1"), strict=True):
        clean.setenv(name, value)
    assert num_cores() == 4
    clean.setenv("JAX_COORDINATOR_ADDRESS", "node001:12345")
    assert num_cores() == 8
