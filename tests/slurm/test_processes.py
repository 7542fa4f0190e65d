"""`srun` starts the processes of one run on a real Slurm."""

import signal
import sys
from pathlib import Path

import pytest
from support.crash import TEXT, results
from support.shell import run
from support.together import DRIVER

from seqjax.runs.files.rows import read_rows

FLAGS = (
    *("--dataset", "text-file", "--dataset.path", "book.txt", "--model.hidden", "4", "--gradient", "truncated:steps=3"),
    *("--sampler.batch-size", "4", "--sampler.num-steps", "5", "--epochs", "3", "--checkpoint-seconds", "0"),
)
TESTS = Path(__file__).parents[1]
IN_ALL, IN_THE_SECOND = "true", "[ $SLURM_PROCID = 1 ]"


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "book.txt").write_text(TEXT * 5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    return tmp_path


def two(out, killed=None):
    """Trains in two tasks of a step, of which those that meet a condition of the shell kill themselves on the way."""
    kill = f"if {killed}; then export SIGNAL={int(signal.SIGKILL)} SIGNAL_AFTER=5; fi; " if killed else ""
    command = [sys.executable, "-c", DRIVER, "run", *FLAGS, "--out", out]
    return run(["srun", "--ntasks=2", "bash", "-c", f'{kill}exec "$@"', "bash", *command], JAX_NUM_CPU_DEVICES="1")


def test_two_tasks_have_the_metrics_of_one_process_with_two_devices(place):
    done = two("two")
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    one = run([sys.executable, "-c", DRIVER, "run", *FLAGS, "--out", "one"], JAX_NUM_CPU_DEVICES="2")
    assert one.returncode == 0, one.stderr
    for here, there in zip(read_rows(place / "two"), read_rows(place / "one"), strict=True):
        for name in (name for name in there if "second" not in name):
            assert here[name] == pytest.approx(there[name], rel=1e-12, abs=0), name


@pytest.mark.parametrize("killed", [IN_ALL, IN_THE_SECOND])
def test_killed_tasks_end_together_and_the_same_command_goes_on(place, killed):
    assert two("whole").returncode == 0
    done = two("out", killed)
    assert done.returncode != 0
    assert not (place / "out" / "params.safetensors").exists()
    if killed == IN_THE_SECOND:
        assert "another process of this run has ended" in done.stderr
        assert "the same command in all processes resumes it" in done.stderr
    done = two("out")
    assert done.returncode == 0, done.stderr
    assert results(place / "out") == results(place / "whole")
