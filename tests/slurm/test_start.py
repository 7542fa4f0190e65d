"""The Slurm that `tests/slurm/start` has started runs the tasks of a step, and those of an array."""

import pytest
from support.shell import run


def test_a_step_has_two_tasks():
    done = run(["srun", "-n", "2", "hostname"])
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second != ""


@pytest.mark.parametrize("code", [0, 3])
def test_an_array_ends_with_the_code_of_its_script(tmp_path, code):
    script = tmp_path / "job"
    script.write_text(f"#!/bin/sh\necho task $SLURM_ARRAY_TASK_ID\nexit {code}\n")
    done = run(["sbatch", "--wait", "--array=0-1", "--output=%a.log", script], cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert [(tmp_path / f"{index}.log").read_text() for index in range(2)] == ["task 0\n", "task 1\n"]
