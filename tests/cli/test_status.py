"""`seqjax status`, and how it tells the states of runs apart."""

import os

import pytest
from support.crash import NoFigure, experiment, forget_results
from support.shell import call
from support.tiny import copy

from seqjax import Run, sweep
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import read_manifest, write_manifest
from seqjax.runs.files.rows import encode_rows, read_rows
from seqjax.sweeps import Job
from seqjax.sweeps.launching.state import state_of
from seqjax_launchers import local

NAME = "mlp, windows"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run, "run", and of a sweep of two runs of one epoch, "out", which the tests copy."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "plot", NoFigure)
        experiment(NAME).run(place / "run")
        sweep(experiment(NAME, epochs=1), {"seed": [0, 1]}, place / "out")
    return place


@pytest.fixture
def run(made, tmp_path):
    return copy(made / "run", tmp_path / "run")


@pytest.fixture
def out(made, tmp_path):
    """A sweep whose first run did not end, and its jobs."""
    out = copy(made / "out", tmp_path / "out")
    unfinish(out / "seed-0")
    (out / "_jobs").mkdir()
    return out


@pytest.fixture
def job(tmp_path):
    (tmp_path / "_jobs").mkdir()
    return tmp_path / "_jobs" / "run"


def unfinish(run):
    """As a kill during training leaves it."""
    forget_results(run)
    (run / "params.safetensors").unlink()


def state(run, job, waiting=None):
    return state_of("run", run, job, waiting)[1:]


def write(job, log=None, code=None, epochs=2):
    job.with_suffix(".toml").write_text(f"epochs = {epochs}\n")
    for ending, text in ((".log", log), (".code", code)):
        job.with_suffix(ending).unlink(missing_ok=True)
        if text is not None:
            job.with_suffix(ending).write_text(text)


def test_a_finished_run(run, job):
    for waiting in (None, "queued", "running"):  # a cluster may be slow to notice
        assert state(run, job, waiting) == ("finished", 2, 2, None, "")
    write(job, "all is well\n", "0")
    assert state(run, job) == ("finished", 2, 2, None, "")
    # More epochs are asked for, and their job does not end well.
    write(job, "all is well\n", None, epochs=4)
    assert state(run, job, "queued") == ("queued", 2, 4, None, "")
    write(job, "seqjax: no more disk\n  free some\n", "6", epochs=4)
    assert state(run, job) == ("failed", 2, 4, None, "seqjax: no more disk; free some")
    # It stopped early.
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("epochs = 2", "epochs = 4"))
    write(job, "ended    the held-out loss was lowest\n", "0", epochs=4)
    assert state(run, job) == ("finished", 2, 4, None, "ended early")


def test_more_epochs_that_were_not_trained_are_not_finished(run, job):
    """Whatever has ended their job: nothing wrote its exit code, as after a second Ctrl-C."""
    write(job, None, None, epochs=4)
    assert state(run, job) == ("interrupted", 2, 4, None, "")
    write(job, "the log of 2 epochs\n", None, epochs=4)
    assert state(run, job) == ("interrupted", 2, 4, None, "the log of 2 epochs")
    # A command without a launcher has trained more epochs than the last job.
    write(job, "x\n", "2", epochs=1)
    assert state(run, job) == ("finished", 2, 2, None, "")


def test_a_run_in_training(run, job):
    unfinish(run)
    write(job, "epoch\n")
    rows = read_rows(run)
    (run / folder.METRICS).write_bytes(encode_rows([rows[0] | {"seconds": 3.5}]))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "upd')
    with folder.lock(run):
        assert state(run, job) == ("running", 1, 2, 3.5, "")
    assert state(run, job, "running") == ("running", 1, 2, None, "")
    assert state(run, job, "queued") == ("queued", 1, 2, None, "")


@pytest.mark.parametrize(
    ("log", "code", "expected", "note"),
    [
        ("epoch\ninterrupted at update 7\n\n", "143", "interrupted", "interrupted at update 7"),
        ("interrupted at update 7\nseqjax: interrupted at update 1,234, and saved in s/run\nThe same\n", "130",
         "interrupted", "interrupted at update 1,234"),
        ("interrupted at update 7, and saved in run\nepoch\n", "137", "failed", "ended by signal 9"),
        ("epoch\n", "134", "failed", "ended by signal 6; epoch"),
        ("a\nTraceback\n  line\nKeyError: 3\n", "1", "failed", "KeyError: 3"),
        ("seqjax: one\nseqjax: two:\n  three\n", "2", "failed", "seqjax: two:; three"),
        ("\ufffd\x00\x1b[2J\n", "1", "failed", "\ufffd\x00\x1b[2J"),
        (None, None, "interrupted", ""),
    ],
)  # fmt: skip
def test_a_run_that_did_not_end(run, job, log, code, expected, note):
    unfinish(run)
    write(job, log, code)
    assert state(run, job) == (expected, 2, 2, None, note)


def test_a_local_job_is_running_until_its_process_has_ended(tmp_path, job):
    """Also before it has locked the folder of its run, and after the process that waits for it was killed."""
    os.mkfifo(tmp_path / "go")
    write(job)
    command = ("cat", str(tmp_path / "go"))
    process = local._start(Job("run", command, job.with_suffix(".log"), job.with_suffix(".code")), local.own_cores())
    found = state(tmp_path / "none", job)
    (tmp_path / "go").write_text("")
    assert process.wait() == 0
    assert found == ("running", 0, 2, None, "")
    assert state(tmp_path / "none", job) == ("not started", 0, 2, None, "")


def test_a_run_that_diverged(run, job):
    write_manifest(run, read_manifest(run)._replace(ended="diverged", note="the loss is NaN\nTry a smaller one\n"))
    write(job, "x\n", "3")
    assert state(run, job) == ("diverged", 2, 2, None, "the loss is NaN")
    unfinish(run)  # a kill came before they were written, and the same command diverges again
    assert state(run, job) == ("failed", 2, 2, None, "x")
    write(job, "x\n", "")  # the exit code is being written
    assert state(run, job) == ("interrupted", 2, 2, None, "x")


def test_a_run_that_is_not_there(tmp_path, job):
    assert state(tmp_path / "none", job) == ("not started", 0, None, None, "")
    write(job, "seqjax: no such file\n", "2")
    assert state(tmp_path / "none", job) == ("failed", 0, 2, None, "seqjax: no such file")
    write(job, "Importing\n", None)
    assert state(tmp_path / "none", job) == ("not started", 0, 2, None, "Importing")


def test_a_run_of_a_sweep_has_the_state_that_it_has_there(out, monkeypatch):
    write(out / "_jobs" / "seed-0", "\x1b[2Jgone\n", "1", epochs=1)
    monkeypatch.chdir(out / "seed-0")
    for path in (".", out / "seed-0"):
        assert "failed" in call("status", path).stdout
    shown = call("status", out).stdout
    assert "\\x1b[2Jgone" in shown, "no control characters reach the terminal"
    assert f"logs     {out / '_jobs'}" in shown


def test_a_sweep_without_a_launcher(out):
    (out / "_jobs").rmdir()
    done = call("status", out)
    assert done.returncode == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [
        ["seed=0", "interrupted"], ["seed=1", "finished"],
    ]  # fmt: skip
    assert done.stdout.endswith("\nnext     the command that began it trains what is missing\n")


def test_the_next_command_and_other_folders(made, tmp_path):
    for path in (made / "run", made / "out"):
        assert call("status", path).stdout.endswith(f"\nnext     seqjax compare {path}\n")
    done = call("status", tmp_path)
    assert done.returncode == 2
    assert "holds no run and no sweep" in done.stderr


def test_a_damaged_run_of_a_sweep_does_not_hide_the_others(out):
    metrics = out / "seed-1" / folder.METRICS
    metrics.write_text(metrics.read_text().replace('"epoch": 1', '"epoch": 3'))
    done = call("status", out)
    assert done.returncode == 4
    first, second = (line.split() for line in done.stdout.splitlines() if line.startswith("seed="))
    assert (first[1], second[1]) == ("interrupted", "damaged")
    assert f"seqjax verify {out}" in done.stderr
