"""Sweeps as job arrays of a real Slurm."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from support.crash import results
from support.shell import SEQJAX, run

from seqjax import Error
from seqjax.launchers import Slurm
from seqjax.sweeps import Job
from seqjax.sweeps.index import read_index
from seqjax.sweeps.launching.state import read_launched, states
from seqjax.testing.checking import run_checks

TEXT = "the cat sat on the mat and the dog sat on the log. " * 400
SWEEP = [
    *("sweep", "--dataset", "text-file:path=here.txt", "text-file:path=gone.txt", "--model.hidden", "8"),
    *("--optimizer", "sgd:learning_rate=0.1", "sgd:learning_rate=1e38", "--seeds", "0,1", "--epochs", "200"),
    *("--sampler.batch-size", "4", "--sampler.num-steps", "10", "--checkpoint-seconds", "0", "--devices", "1"),
]
TAME, WILD = (
    [f"text-file:path=here.txt, sgd:learning_rate={rate}, seed={seed}" for seed in (0, 1)] for rate in ("0.1", "1e38")
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in ("here.txt", "gone.txt"):
        (tmp_path / name).write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seqjax(*argv, code=0):
    done = run([SEQJAX, *argv])
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def slurm(*command):
    done = run(command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(condition, seconds=300):
    """Polls until a condition holds; fails after some time."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"it took too long\n{slurm('squeue', '--array')}"
        time.sleep(0.2)
    return result


def found(out="out"):
    return {state.name: state for state in states(Path(out))}


def of_state(state):
    return sorted(name for name, each in found().items() if each.state == state)


def test_a_sweep_ends_as_on_one_machine_whatever_happens_to_its_jobs(place):
    slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    said = seqjax(*SWEEP, "--launcher", "slurm", "--out", "out")
    assert said.count("queued") == 8
    assert "next     seqjax status out" in said
    (place / "gone.txt").unlink()
    slurm("scontrol", "update", "PartitionName=main", "State=UP")

    # Two jobs are preempted: they save their state, and are queued again.
    folders = {name: Path("out", entry.folder) for name, entry in read_index(Path("out")).items()}
    logs = {name: Path("out", "_jobs", f"{folder.name}.log") for name, folder in folders.items()}
    wait_for(lambda: all(list(folders[name].glob("checkpoints/*.safetensors")) for name in TAME))
    assert of_state("running") == TAME
    slurm("sbatch", "--partition=urgent", "--cpus-per-task=2", "--wrap=sleep 1")
    wait_for(lambda: set(TAME) <= set(of_state("queued")))
    assert seqjax("status", "out").count("queued") >= 2
    for name in TAME:
        assert "interrupted at update" in logs[name].read_text()

    # One of them is killed when it runs again.
    killed = folders[TAME[1]]
    wait_for(lambda: "epoch" in logs[TAME[1]].read_text().partition("interrupted")[2])
    os.kill(int((killed / ".lock").read_text().split()[1]), signal.SIGKILL)

    wait_for(lambda: not slurm("squeue", "--noheader").strip())
    ends = {name: (state.state, state.note) for name, state in found().items()}
    assert of_state("finished") == TAME[:1]
    assert ends[TAME[1]][0] == "failed"
    assert ends[TAME[1]][1].startswith("ended by signal 9")
    assert of_state("diverged") == WILD
    gone = [name for name in ends if "gone.txt" in name]
    assert len(gone) == 4
    for name in gone:
        assert ends[name][0] == "failed"
        assert "gone.txt" in ends[name][1]

    # The same command starts what is missing, and nothing else.
    (place / "gone.txt").write_text(TEXT)
    before = {name: log.read_text() for name, log in logs.items()}
    seqjax(*SWEEP, "--launcher", "slurm", "--out", "out")
    wait_for(lambda: not slurm("squeue", "--noheader").strip())
    assert len(of_state("finished")) == len(of_state("diverged")) == 4
    assert {name for name, log in logs.items() if log.read_text() == before[name]} == {TAME[0], *WILD}
    assert "saved    out" in seqjax(*SWEEP, "--launcher", "slurm", "--out", "out")
    seqjax(*SWEEP, "--launcher", "local", "--checkpoint-seconds", "30", "--out", "local")
    for folder in folders.values():
        assert results(folder) == results(Path("local", folder.name))


def test_a_job_whose_time_is_nearly_over_is_queued_again(place):
    """`scancel --signal` sends what Slurm sends before the time limit."""
    tame = [arg for arg in SWEEP if "gone" not in arg and "1e38" not in arg]
    seqjax(*tame, "--launcher", "slurm", "--launcher.time", "30", "--out", "out")
    name = "seed=0"
    wait_for(lambda: list(Path("out").glob("seed-0/checkpoints/*.safetensors")))
    id_ = read_launched(Path("out"))[name]["id"]
    slurm("scancel", "--signal=USR1", id_)
    wait_for(lambda: name in of_state("queued"))
    wait_for(lambda: not slurm("squeue", "--noheader").strip())
    assert of_state("finished") == ["seed=0", "seed=1"]
    assert "interrupted at update" in Path("out", "_jobs", "seed-0.log").read_text()
    seqjax(*tame, "--checkpoint-seconds", "30", "--out", "here")
    for seed in (0, 1):
        assert results(Path("out", f"seed-{seed}")) == results(Path("here", f"seed-{seed}"))


def test_a_job_that_is_cancelled_has_failed(place):
    slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    tame = [arg for arg in SWEEP if "gone" not in arg and "1e38" not in arg]
    seqjax(*tame, "--launcher", "slurm", "--out", "out")
    slurm("scancel", read_launched(Path("out"))["seed=1"]["id"])
    slurm("scancel", "--state=PENDING", read_launched(Path("out"))["seed=0"]["id"])
    slurm("scontrol", "update", "PartitionName=main", "State=UP")
    wait_for(lambda: of_state("failed") == ["seed=0", "seed=1"])
    assert "may have been cancelled" in seqjax("status", "out")


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        (Slurm(partition="nope"), "sbatch .*\n.*invalid partition specified: nope"),
        (Slurm(options=("--nodes=many",)), "sbatch .*\n.*many"),
    ],
)
def test_what_slurm_refuses_is_said(place, launcher, message):
    job = Job("a job", ("true",), place / "log", place / "code")
    with pytest.raises(Error, match=message):
        launcher.launch([job], lambda: None)


def test_arguments_and_folders_with_strange_characters(place, monkeypatch):
    """Slurm replaces `%a`, also in the name of the current folder."""
    (place / "100%a" / "50% of 'it' $HOME").mkdir(parents=True)
    monkeypatch.chdir("100%a")
    folder = Path("50% of 'it' $HOME")
    arguments = ["a b", "it's", "$HOME", "%a", 'say "so"', "back\\slash", ""]
    command = (sys.executable, "-c", "import sys; print(sys.argv[1:])", *arguments)
    job = Job("a job", command, folder / "a.log", folder / "a.code")
    launcher = Slurm(time="1", memory="100M", notice=30)
    ids = launcher.launch([job], lambda: None)
    assert list(ids) == ["a job"]
    wait_for(lambda: not launcher.alive(ids.values()))
    assert job.log.read_text() == f"{arguments}\n"
    assert job.code.read_text() == "0\n"
    assert (folder / "slurm.txt").exists()
    assert [each.name for each in place.glob("100*")] == ["100%a"]


def test_the_launcher_does_what_its_kind_asks(place):
    """Elsewhere its checks are skipped."""
    lines = run_checks(Slurm())
    assert {line.check.name: line.fault for line in lines if line.fault} == {}
    assert [line.check.name for line in lines if line.passed == "not made"] == ["interruption"]
