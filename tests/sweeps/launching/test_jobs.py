"""Sweeps whose runs are made through a launcher."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.crash import NoFigure, results
from support.shell import SEQJAX
from support.shell import seqjax as seqjax_command

import seqjax
from seqjax import Error, Experiment, Launcher, Run, Text, cli, sweep
from seqjax.plugin import config
from seqjax.sweeps import Job, folder
from seqjax.sweeps.index import read_index
from seqjax.sweeps.launching import jobs
from seqjax.sweeps.launching.state import states
from seqjax_datasets import TextFile
from seqjax_launchers import Local, local
from seqjax_models import RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential

TEXT = "the cat sat on the mat and the dog sat on the log. " * 20


@dataclass(frozen=True)
class Inline(Launcher):
    """Makes the runs in this process, one after the other. First it deletes a file, as someone may do meanwhile."""

    deletes: str = ""

    def launch(self, jobs, show_progress):
        if self.deletes:
            Path(self.deletes).unlink()
        for job in jobs:
            assert job.command[:3] == (sys.executable, "-m", "seqjax")
            with job.log.open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                code = cli.main(job.command[3:])
            job.code.write_text(str(code))
            show_progress()
        return {}


@dataclass(frozen=True)
class Cluster(Launcher):
    """Keeps its jobs in a file, from which a test takes them."""

    file: str

    def launch(self, jobs, show_progress):
        file = Path(self.file)
        queue = json.loads(file.read_text()) if file.is_file() else {}
        new = {f"job {len(queue) + n}": job for n, job in enumerate(jobs)}
        file.write_text(json.dumps({**queue, **dict.fromkeys(new, "queued")}))
        return {job.name: id_ for id_, job in new.items()}

    def alive(self, ids):
        return {id_: state for id_, state in json.loads(Path(self.file).read_text()).items() if id_ in ids and state}


@dataclass(frozen=True)
class Watched(Launcher):
    """Starts nothing, and keeps how far the runs are while it waits for jobs that `codes` says to have ended."""

    codes: tuple[int | None, ...] = ()

    def launch(self, jobs, show_progress):
        for job, code in zip(jobs, self.codes, strict=False):
            if code is not None:
                job.code.write_text(str(code))
        SEEN[:] = [(state.name, state.state, state.note) for state in states(jobs[0].log.parents[1])]
        show_progress()
        return {}


@dataclass(frozen=True)
class Refusing(Inline):
    """Makes some of the runs; then the cluster refuses the others."""

    first: int = 0

    def launch(self, jobs, show_progress):
        super().launch(jobs[: self.first], show_progress)
        raise Error("invalid partition")


SEEN: list[tuple[str, str, str]] = []
"""The name, state and note of each run, as the launcher `Watched` saw them."""


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    monkeypatch.setattr(Run, "plot", NoFigure)


@pytest.fixture(autouse=True)
def registered(forget_local_plugins):
    """Registers the launchers of these tests, for the time of each of them."""
    seqjax.register("launcher", "test-inline")(Inline)
    seqjax.register("launcher", "test-cluster")(Cluster)
    seqjax.register("launcher", "test-watched")(Watched)
    seqjax.register("launcher", "test-refusing")(Refusing)


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return Experiment(
        dataset=TextFile(path=str(tmp_path / "text.txt")), model=RNN(hidden=4), sampler=Sequential(4, 10), epochs=2
    )


def found(out):
    return {state.name: state for state in states(out)}


def logs(out):
    return {file.stem: file.read_text().count("saved    ") for file in (out / "_jobs").glob("*.log")}


def test_the_runs_are_those_without_a_launcher(tmp_path, experiment):
    axes = {"model.hidden": [4, 5], "seed": [0, 1]}
    plain = sweep(experiment, axes, tmp_path / "plain", devices=1)
    runs = sweep(experiment, axes, tmp_path / "jobs", devices=1, launcher=Inline())
    assert list(runs) == list(plain)
    for name in plain:
        assert results(runs[name].path) == results(plain[name].path)
    assert {state.state for state in states(tmp_path / "jobs")} == {"finished"}
    assert set(logs(tmp_path / "jobs").values()) == {1}
    # Nothing is missing, so that no job is started.
    sweep(experiment, axes, tmp_path / "jobs", devices=1, launcher=Inline())
    assert set(logs(tmp_path / "jobs").values()) == {1}
    # A new value is.
    sweep(experiment, axes | {"seed": [0, 1, 2]}, tmp_path / "jobs", devices=1, launcher=Inline())
    assert len(logs(tmp_path / "jobs")) == 6


def test_more_epochs_go_on_through_a_launcher(tmp_path, experiment):
    once = sweep(replace(experiment, epochs=3), {"seed": [0]}, tmp_path / "once", launcher=Inline())
    sweep(experiment, {"seed": [0]}, tmp_path / "more", launcher=Inline())
    runs = sweep(replace(experiment, epochs=3), {"seed": [0]}, tmp_path / "more", launcher=Inline())
    assert results(runs["seed=0"].path) == results(once["seed=0"].path)
    assert logs(tmp_path / "more") == {"seed-0": 2}


def test_more_epochs_whose_jobs_fail_are_not_shown_as_saved(tmp_path, experiment):
    """The runs of fewer epochs are there, and are no result of this sweep."""
    e = replace(experiment, optimizer=SGD(schedule="cosine"))
    sweep(e, {"seed": [0, 1]}, tmp_path / "out", launcher=Inline())
    with pytest.raises(Error, match=r"2 of 2 runs failed.*\n(.*\n)+.*cannot go on from 2 to 4 epochs"):
        sweep(replace(e, epochs=4), {"seed": [0, 1]}, tmp_path / "out", launcher=Inline())
    assert [state.state for state in states(tmp_path / "out")] == ["failed", "failed"]


def test_a_job_that_fails_is_named_with_the_last_line_of_its_log(tmp_path, experiment):
    axes = {"dataset": {"here": experiment.dataset, "gone": TextFile(path=str(tmp_path / "gone.txt"))}, "seed": [0, 1]}
    (tmp_path / "gone.txt").write_text(TEXT)
    with pytest.raises(Error, match=r"2 of 4 runs failed.*\n.*same command again.*\n.*gone, seed=0: .*") as caught:
        sweep(experiment, axes, tmp_path / "out", launcher=Inline(deletes=str(tmp_path / "gone.txt")))
    last = (tmp_path / "out" / "_jobs" / "gone-seed-0.log").read_text().splitlines()[-1]
    assert last.strip() in str(caught.value)
    state = found(tmp_path / "out")
    assert {name: each.state for name, each in state.items()} == {
        "here, seed=0": "finished", "here, seed=1": "finished", "gone, seed=0": "failed", "gone, seed=1": "failed",
    }  # fmt: skip
    assert re.fullmatch(rf"seqjax: .*gone\.txt.*; {re.escape(last.strip())}", state["gone, seed=1"].note)
    # With the file back, the same sweep starts these two.
    (tmp_path / "gone.txt").write_text(TEXT)
    runs = sweep(experiment, axes, tmp_path / "out", launcher=Inline())
    assert len(runs) == 4
    assert logs(tmp_path / "out") == dict.fromkeys(("here-seed-0", "here-seed-1", "gone-seed-0", "gone-seed-1"), 1)


def test_a_job_that_has_ended_is_shown_while_others_wait(tmp_path, experiment, capsys):
    with pytest.raises(Error, match="1 of 3 runs failed"):
        sweep(experiment, {"seed": [0, 1, 2]}, tmp_path / "out", progress=True, launcher=Watched((137, 143)))
    assert SEEN == [
        ("seed=0", "failed", "ended by signal 9"), ("seed=1", "interrupted", ""), ("seed=2", "queued", ""),
    ]  # fmt: skip
    assert "[1/3] seed=0: failed, 0 of 2 epochs: ended by signal 9\n" in capsys.readouterr().out


def test_jobs_of_an_earlier_launch_are_not_queued_in_this_one(tmp_path, experiment):
    """Nothing has written their exit codes, as after a kill of the process that waited for them."""
    sweep(experiment, {"seed": [0]}, tmp_path / "out", launcher=Watched())
    sweep(experiment, {"seed": [2]}, tmp_path / "out", launcher=Watched())
    assert SEEN == [("seed=0", "not started", ""), ("seed=2", "queued", "")]


def test_the_note_of_a_job_is_of_its_last_start(tmp_path, experiment):
    gone = replace(experiment, dataset=TextFile(path=str(tmp_path / "gone.txt")))
    (tmp_path / "gone.txt").write_text(TEXT)
    with pytest.raises(Error, match="1 of 1 runs failed"):
        sweep(gone, {"seed": [0]}, tmp_path / "out", launcher=Inline(deletes=str(tmp_path / "gone.txt")))
    log = tmp_path / "out" / "_jobs" / "seed-0.log"
    before = log.read_text() + "a line that a kill has cut"
    log.write_text(before)
    assert "gone.txt" in found(tmp_path / "out")["seed=0"].note
    (tmp_path / "gone.txt").write_text(TEXT)
    with pytest.raises(Error, match=r"\n  seed=0: ended by signal 9$"):
        sweep(gone, {"seed": [0]}, tmp_path / "out", launcher=Watched((137,)))
    assert found(tmp_path / "out")["seed=0"].note == "ended by signal 9"
    assert log.read_text().startswith(before)


def test_jobs_that_are_refused_change_no_state(tmp_path, experiment):
    out = tmp_path / "out"
    sweep(experiment, {"seed": [0, 1]}, out, launcher=Inline())
    with pytest.raises(Error, match="1 of 1 runs failed"):
        sweep(experiment, {"seed": [2]}, out, launcher=Watched((137,)))
    before, texts = states(out), {file.name: file.read_text() for file in (out / "_jobs").glob("seed-*")}
    more = replace(experiment, epochs=3)
    with pytest.raises(Error, match=r"invalid partition\n.*type the same command again"):
        sweep(more, {"seed": [0, 1, 2]}, out, launcher=Refusing())
    assert states(out) == before
    assert {file.name: file.read_text() for file in (out / "_jobs").glob("seed-*")} == texts
    # A job that was started before keeps what it has written.
    with pytest.raises(Error, match="invalid partition"):
        sweep(more, {"seed": [0, 1, 2]}, out, launcher=Refusing(first=1))
    assert states(out) == [before[0]._replace(epoch=3, epochs=3), *before[1:]]
    assert logs(out) == {"seed-0": 2, "seed-1": 1, "seed-2": 0}


def test_a_run_that_diverges_is_no_failed_job(tmp_path, experiment):
    axes = {"optimizer": {"wild": SGD(learning_rate=1e38), "tame": SGD(learning_rate=0.1)}}
    out = tmp_path / "out"
    runs = sweep(experiment, axes, out, launcher=Inline())
    assert runs["wild"].diverged
    assert {name: state.state for name, state in found(out).items()} == {"wild": "diverged", "tame": "finished"}
    assert found(out)["wild"].note == (out / "wild" / "diverged.txt").read_text().splitlines()[0]
    before = (out / "_jobs" / "wild.log").read_text()
    sweep(experiment, axes, out, launcher=Inline())
    assert (out / "_jobs" / "wild.log").read_text() == before


def test_a_launcher_that_does_not_wait(tmp_path, experiment):
    out, queue = tmp_path / "out", tmp_path / "queue"
    axes, launcher = {"seed": [0, 1, 2]}, Cluster(str(queue))
    assert len(sweep(experiment, axes, out, launcher=launcher)) == 0
    assert [state.state for state in states(out)] == ["queued"] * 3
    # Jobs that are there are not started again.
    assert len(sweep(experiment, axes, out, launcher=launcher)) == 0
    assert len(json.loads(queue.read_text())) == 3
    queue.write_text(json.dumps({"job 0": "queued", "job 1": "running", "job 2": None}))
    assert [state.state for state in states(out)] == ["queued", "running", "failed"]
    assert "its job, job 2, ended before it began: it may have been cancelled" in found(out)["seed=2"].note
    with pytest.raises(Error, match="1 of 3 runs failed"):
        jobs.check_jobs(out, ["seed=0", "seed=1", "seed=2"])
    assert len(sweep(experiment, axes, out, launcher=launcher)) == 0
    assert json.loads(queue.read_text())["job 3"] == "queued"
    assert [state.state for state in states(out)] == ["queued", "running", "queued"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": Text(TEXT)}, "its dataset is in memory.*\n.*text-file, csv"),
        ({"heldout": Text(TEXT)}, "its heldout is in memory"),
        ({"loss": lambda output, target: output.sum()}, "a config cannot hold what was given in Python as: loss"),
    ],
)
def test_what_a_process_cannot_see_is_an_error_before_anything_starts(tmp_path, experiment, changes, message):
    with pytest.raises(Error, match=message):
        sweep(replace(experiment, **changes), {"seed": [0]}, tmp_path / "out", launcher=Inline())
    assert not (tmp_path / "out").exists()


def test_a_launcher_needs_a_folder(experiment):
    with pytest.raises(Error, match="which need folders"):
        sweep(experiment, {"seed": [0]}, launcher=Inline())


def test_one_process_launches_at_a_time(tmp_path, experiment):
    out = tmp_path / "out"
    (out / "_jobs").mkdir(parents=True)  # a kill may come before the index is written
    sweep(experiment, {"seed": [0]}, out, launcher=Inline())
    with folder.lock(out / "_jobs"), pytest.raises(Error, match="in use by process") as caught:
        sweep(experiment, {"seed": [0, 1]}, out, launcher=Inline())
    assert caught.value.exit_code == 5
    assert list(read_index(out)) == ["seed=0"]


def test_a_job_loads_the_files_of_local_plugins(tmp_path, experiment):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nimport seqjax, seqjax_models\n"
        "@seqjax.register('model', 'mine-in-jobs')\n@dataclass(frozen=True)\nclass Mine(seqjax_models.RNN):\n"
        "    '''Mine.'''\n    def metrics_of(self): ...\n"
    )
    seqjax.plugin.registry.load_file(file)
    model = config.create("model", "mine-in-jobs", hidden=3)
    commands = []

    @seqjax.register("launcher", "test-commands")
    @dataclass(frozen=True)
    class Commands(Launcher):
        def launch(self, jobs, show_progress):
            commands.extend(job.command for job in jobs)
            return {}

    sweep(replace(experiment, model=model), {"seed": [0]}, tmp_path / "out", devices=1, launcher=Commands())
    assert commands[0][-2:] == ("--load", str(file))
    verb, toml, out, seconds = commands[0][3:10:2]
    assert (verb, toml) == ("run", str(tmp_path / "out" / "_jobs" / "seed-0.toml"))
    assert (out, seconds) == (str(tmp_path / "out" / "seed-0"), "30.0")


def start(*argv, cwd):
    return subprocess.Popen([SEQJAX, *argv], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, seconds=90):
    """Polls until a condition holds; fails after some time."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
    return result


SWEEP = [
    *("sweep", "--dataset", "text-file", "--dataset.path", "text.txt", "--model.hidden", "4"),
    *("--sampler.batch-size", "4", "--sampler.num-steps", "10", "--seeds", "0,1", "--devices", "1"),
]
JOBS = [*SWEEP, "--launcher", "local", "--launcher.jobs", "2", "--checkpoint-seconds", "0"]


@pytest.mark.parametrize(("jobs", "size"), [(None, 1), (1, 4), (2, 2), (3, 1), (9, 1)])
def test_the_share_of_the_cores_does_not_depend_on_what_is_missing(tmp_path, monkeypatch, jobs, size):
    """A run that goes on has to have as many devices as before."""
    monkeypatch.setattr(local, "own_cores", lambda: [3, 5, 6, 7])
    shares = []

    class Ended:
        returncode = 0

        def poll(self):
            return 0

    monkeypatch.setattr(local, "_start", lambda job, share: (shares.append(share), Ended())[1])
    for count in (1, 2, 5):
        names = [Job(f"{n}", (), tmp_path / "log", tmp_path / "code") for n in range(count)]
        assert Local(jobs=jobs).launch(names, lambda: None) == {}
    assert {len(share) for share in shares} == {size}
    assert {core for share in shares for core in share} <= {3, 5, 6, 7}


@pytest.mark.slow
def test_local_processes_make_the_same_runs(tmp_path, experiment):
    axes = {"model.hidden": [4, 5], "seed": [0, 1]}
    plain = sweep(experiment, axes, tmp_path / "plain", devices=1)
    runs = sweep(experiment, axes, tmp_path / "jobs", devices=1, launcher=Local(jobs=3))
    for name in plain:
        assert results(runs[name].path) == results(plain[name].path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results of each run of an uninterrupted sweep without a launcher, by seed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text(TEXT * 20)
    done = seqjax_command(*SWEEP, "--epochs", "150", "--out", "once", cwd=folder)
    assert done.returncode == 0, done.stderr
    return [results(folder / "once" / f"seed-{seed}") for seed in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_runs_and_the_same_command_resumes_them(tmp_path, whole, number):
    (tmp_path / "text.txt").write_text(TEXT * 20)
    launching = start(*JOBS, "--epochs", "150", "--out", "out", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("out/*/checkpoints/*.safetensors")))
    launching.send_signal(number)
    said = launching.communicate(timeout=90)[0]
    assert launching.returncode == 128 + number
    assert "The same command resumes them" in said
    assert "next     seqjax sweep" in said
    interrupted = {state.state for state in states(tmp_path / "out")}
    assert "interrupted" in interrupted
    assert interrupted <= {"interrupted", "not started"}
    again = start(*JOBS, "--epochs", "150", "--out", "out", cwd=tmp_path)
    again.communicate(timeout=180)
    assert again.returncode == 0
    assert [results(tmp_path / "out" / f"seed-{seed}") for seed in (0, 1)] == whole


@pytest.mark.slow
def test_a_job_that_is_killed_has_failed_and_the_others_go_on(tmp_path, whole):
    (tmp_path / "text.txt").write_text(TEXT * 20)
    launching = start(*JOBS, "--epochs", "150", "--out", "out", cwd=tmp_path)
    run = tmp_path / "out" / "seed-1"
    wait_for(lambda: list(run.glob("checkpoints/*.safetensors")))
    os.kill(int((run / ".lock").read_text().split()[1]), signal.SIGKILL)
    said = launching.communicate(timeout=180)[0]
    assert launching.returncode == 2
    assert "seed=1: ended by signal 9" in said
    assert {name: state.state for name, state in found(tmp_path / "out").items()} == {
        "seed=0": "finished", "seed=1": "failed",
    }  # fmt: skip
    again = start(*JOBS, "--epochs", "150", "--out", "out", cwd=tmp_path)
    again.communicate(timeout=180)
    assert again.returncode == 0
    assert [results(tmp_path / "out" / f"seed-{seed}") for seed in (0, 1)] == whole
