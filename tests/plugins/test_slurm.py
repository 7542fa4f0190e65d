"""The launcher slurm with a program in place of sbatch. tests/slurm runs it in a Slurm."""

import os
import subprocess
from pathlib import Path

import pytest
from support.shell import SEQJAX

from seqjax import Error
from seqjax.launchers import Slurm
from seqjax.sweeps import Job
from seqjax.sweeps.launching.state import read_launched


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a shell script a program of Slurm."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def make(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("1", 60), ("2", 120), ("0:30", 30), ("1:59", 119), ("0:0:7", 7), ("0:1:40", 100),
        ("0-0:1", 60), ("0-0:1:40", 100),
    ],
)  # fmt: skip
def test_a_limit_within_the_notice_is_refused(time, seconds):
    with pytest.raises(Error, match=f"time = {time} is {seconds} seconds, and notice = 120: each run would be"):
        Slurm(time=time)


@pytest.mark.parametrize("time", [None, "3", "2:01", "0:2:01", "0-1", "1-0", "0", "0-0:3", "UNLIMITED", "soon"])
def test_other_limits_are_left_to_slurm(time):
    assert Slurm(time=time).time == time


def test_ctrl_c_while_sbatch_runs_loses_no_job(tmp_path, program):
    program("sbatch", "kill -INT -$PPID\necho 7")  # as the terminal does, which signals all processes of the group
    (tmp_path / "book.txt").write_text("it was a dark and stormy night. " * 50)
    command = [SEQJAX, "sweep", "--dataset", "text-file:path=book.txt", "--model.hidden", "4", "--seeds", "0,1"]
    command += ["--launcher", "slurm", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, start_new_session=True, check=False)
    assert done.returncode == 130
    assert "the jobs are started, and seqjax status out shows" in done.stderr
    assert {name: job["id"] for name, job in read_launched(tmp_path / "out").items()} == {
        "seed=0": "7_0", "seed=1": "7_1",
    }  # fmt: skip


def launch(folder, monkeypatch):
    """Submits one job with relative paths from this folder."""
    (folder / "out").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return Slurm().launch([Job("", ("true",), Path("out/log"), Path("out/code"))], lambda: None)


def test_files_of_slurm_are_where_they_belong_wherever_it_starts_a_job(tmp_path, program, monkeypatch):
    """Slurm replaces `%a`, also in the name of the folder that it puts before a relative path."""
    program("sbatch", 'for each; do echo "$each"; done >"${0%/*}/sbatch.args"; echo 7')
    program("srun", 'for each; do echo "$each"; done >"${0%/*}/srun.args"')
    folder = tmp_path / "50%a it's"
    assert launch(folder, monkeypatch) == {"": "7_0"}
    done = subprocess.run(["bash", folder / "out" / "slurm.sh"], cwd="/", env=os.environ | {"SLURM_ARRAY_TASK_ID": "0"})
    assert done.returncode == 0
    assert (folder / "out" / "code").read_text() == "0\n"
    for name, file in (("sbatch", "slurm.txt"), ("srun", "log")):
        (output,) = [a for a in (tmp_path / f"{name}.args").read_text().splitlines() if a.startswith("--output=")]
        assert output == f"--output={tmp_path}/50%%a it's/out/{file}"


def test_a_folder_that_slurm_cannot_name_is_an_error(tmp_path, program, monkeypatch):
    program("sbatch", "echo 7")
    with pytest.raises(Error, match=r"launcher slurm: .*back\\slash.*; Slurm drops each backslash.*; choose another"):
        launch(tmp_path / "back\\slash", monkeypatch)
