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

import optax
import pytest
from support.crash import results
from support.quick import BASE, FLAGS, TEXT, refused
from support.shell import SEQJAX
from support.shell import seqjax as seqjax_command

import seqjax
from seqjax import Error, Launcher, Text, cli, sweep
from seqjax.datasets import TextFile
from seqjax.launchers import Local
from seqjax.plugin import config
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import read_manifest
from seqjax.sweeps import Job
from seqjax.sweeps.index import read_index
from seqjax.sweeps.launching import jobs
from seqjax.sweeps.launching.state import states
from seqjax_launchers import local


@dataclass(frozen=True)
class Inline(Launcher):
    """Makes the runs in this process, one after the other, perhaps only the first ones before the cluster refuses."""

    deletes: str = ""
    """A file that someone deletes meanwhile."""
    most: int | None = None

    def launch(self, jobs, show_progress):
        if self.deletes:
            Path(self.deletes).unlink()
        for job in jobs[: self.most]:
            assert job.command[:3] == (sys.executable, "-m", "seqjax")
            with job.log.open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                code = cli.main(job.command[3:])
            job.code.write_text(str(code))
            show_progress()
        if self.most is not None:
            raise Error("invalid partition")
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
    refuses: bool = False

    def launch(self, jobs, show_progress):
        for job, code in zip(jobs, self.codes, strict=False):
            if code is not None:
                job.code.write_text(str(code))
        COMMANDS[:] = [job.command for job in jobs]
        SEEN[:] = [(state.name, state.state, state.note) for state in states(jobs[0].log.parents[1])]
        show_progress()
        if self.refuses:
            raise Error("invalid partition")
        return {}


SEEN: list[tuple[str, str, str]] = []
COMMANDS: list[tuple[str, ...]] = []
"""The name, state and note of each run, and the commands of the jobs, as the launcher `Watched` saw them."""


@pytest.fixture(autouse=True)
def registered(forget_local_plugins):
    """Registers the launchers of these tests, for the time of each of them."""
    for cls in (Inline, Cluster, Watched):
        seqjax.register("launcher", f"test-{cls.__name__.lower()}")(cls)


@pytest.fixture
def experiment(tmp_path):
    return replace(BASE, dataset=data(tmp_path / "text.txt"))


def data(file):
    file.write_text(TEXT)
    return TextFile(path=str(file))


def logs(out):
    return {file.stem: file.read_text().count("saved    ") for file in (out / "_jobs").glob("*.log")}


def test_the_runs_are_those_without_a_launcher(tmp_path, experiment, swept):
    out, axes = tmp_path / "jobs", {"optimizer.learning_rate": {"fast": 0.5, "slow": 0.1}, "seed": [0]}
    for _ in range(2):  # the second time nothing is missing, so that no job is started
        runs = sweep(experiment, axes, out, launcher=Inline())
        assert list(runs) == ["fast, seed=0", "slow, seed=0"]
        assert logs(out) == {"fast-seed-0": 1, "slow-seed-0": 1}
    for name in runs:
        assert results(runs[name].path) == results(swept[1][name].path)
    assert {state.state for state in states(out)} == {"finished"}
    sweep(experiment, {"optimizer.learning_rate": {"fast": 0.5}, "seed": [0, 1]}, out, launcher=Inline())
    assert [*logs(out).values()] == [1] * 3, "a new value starts a job"


def test_more_epochs_go_on_through_a_launcher(tmp_path, experiment):
    """If their jobs fail, the runs of fewer epochs are there, and are no result of this sweep."""
    once = replace(experiment, epochs=3).run(tmp_path / "once")
    sweep(experiment, {"seed": [0]}, tmp_path / "more", launcher=Inline())
    runs = sweep(replace(experiment, epochs=3), {"seed": [0]}, tmp_path / "more", launcher=Inline())
    assert results(runs["seed=0"].path) == results(once.path)
    assert logs(tmp_path / "more") == {"seed-0": 2}
    e = replace(experiment, optimizer=replace(experiment.optimizer, schedule="cosine"))
    sweep(e, {"seed": [0]}, tmp_path / "out", launcher=Inline())
    with pytest.raises(Error, match=r"1 of 1 runs failed.*\n(.*\n)+.*cannot be continued from 2 to 4 epochs"):
        sweep(replace(e, epochs=4), {"seed": [0]}, tmp_path / "out", launcher=Inline())
    assert [state.state for state in states(tmp_path / "out")] == ["failed"]


def test_a_job_that_fails_is_named_with_the_last_line_of_its_last_log(tmp_path, experiment):
    out, gone = tmp_path / "out", tmp_path / "gone.txt"
    axes = {"dataset": {"here": experiment.dataset, "gone": data(gone)}, "seed": [0]}
    with pytest.raises(Error, match=r"1 of 2 runs failed.*\n.*same command again.*\n.*gone, seed=0: .*") as caught:
        sweep(experiment, axes, out, launcher=Inline(deletes=str(gone)))
    log = out / "_jobs" / "gone-seed-0.log"
    last = log.read_text().splitlines()[-1].strip()
    assert last in str(caught.value)
    assert [state.state for state in states(out)] == ["finished", "failed"]
    assert re.fullmatch(rf"seqjax: .*gone\.txt.*; {re.escape(last)}", states(out)[1].note)
    before = log.read_text() + "a line that a kill has cut"
    log.write_text(before)
    gone.write_text(TEXT)
    with pytest.raises(Error, match=r"\n  gone, seed=0: ended by signal 9$"):
        sweep(experiment, axes, out, launcher=Watched((137,)))
    assert log.read_text().startswith(before)
    assert len(sweep(experiment, axes, out, launcher=Inline())) == 2, "with the file back, it is started again"
    assert logs(out) == {"here-seed-0": 1, "gone-seed-0": 1}


def test_a_job_that_has_ended_is_shown_while_others_wait(tmp_path, experiment, capsys):
    with pytest.raises(Error, match="1 of 3 runs failed"):
        sweep(experiment, {"seed": [0, 1, 2]}, tmp_path / "out", progress=True, launcher=Watched((137, 143)))
    states_and_notes = [("failed", "ended by signal 9"), ("interrupted", ""), ("queued", "")]
    assert [(f"seed={n}", *state) for n, state in enumerate(states_and_notes)] == SEEN
    assert capsys.readouterr().out.count("[1/3] seed=0: failed, 0 of 2 epochs: ended by signal 9\n") == 1


def test_jobs_of_an_earlier_launch_are_not_queued_in_this_one(tmp_path, experiment):
    """Nothing has written their exit codes, as after a kill of the process that waited for them."""
    sweep(experiment, {"seed": [0]}, tmp_path / "out", launcher=Watched())
    sweep(experiment, {"seed": [2]}, tmp_path / "out", launcher=Watched())
    assert SEEN == [("seed=0", "not started", ""), ("seed=2", "queued", "")]
    assert [state.state for state in states(tmp_path / "out")] == ["not started"] * 2


def test_jobs_that_are_refused_are_started_by_the_same_command(tmp_path, experiment):
    out, more = tmp_path / "out", replace(experiment, epochs=3)
    sweep(experiment, {"seed": [0, 1]}, out, launcher=Inline())
    with pytest.raises(Error, match="1 of 1 runs failed"):
        sweep(experiment, {"seed": [2]}, out, launcher=Watched((137,)))
    # The first job was started before the others were refused, and keeps what it has written.
    with pytest.raises(Error, match=r"invalid partition\n.*type the same command again"):
        sweep(more, {"seed": [0, 1, 2]}, out, launcher=Inline(most=1))
    found = [(state.state, state.epoch, state.epochs) for state in states(out)]
    assert found == [("finished", 3, 3), ("interrupted", 2, 3), ("not started", 0, 3)]
    assert logs(out) == {"seed-0": 2, "seed-1": 1, "seed-2": 0}
    with pytest.raises(Error, match="invalid partition"):
        sweep(more, {"seed": [2]}, out, launcher=Watched((139,), refuses=True))
    assert states(out)[2].note == "ended by signal 11"
    assert len(sweep(more, {"seed": [0, 1, 2]}, out, launcher=Inline())) == 3


def test_a_run_that_diverges_is_no_failed_job(tmp_path, experiment):
    axes, out = {"optimizer.learning_rate": {"wild": 1e38}}, tmp_path / "out"
    for _ in range(2):
        assert sweep(experiment, axes, out, launcher=Inline())["wild"].diverged
        (state,) = states(out)
        assert (state.state, state.note) == ("diverged", read_manifest(out / "wild").note.splitlines()[0])
    assert (out / "_jobs" / "wild.log").read_text().count("starts a job") == 1


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
    assert "its job, job 2, ended before it began: it may have been cancelled" in states(out)[2].note
    with pytest.raises(Error, match="1 of 3 runs failed"):
        jobs.check_jobs(out, ["seed=0", "seed=1", "seed=2"])
    assert len(sweep(experiment, axes, out, launcher=launcher)) == 0
    assert json.loads(queue.read_text())["job 3"] == "queued"
    assert [state.state for state in states(out)] == ["queued", "running", "queued"]


def test_what_a_process_cannot_see_is_an_error_before_anything_starts(tmp_path, experiment):
    for changes, *words in (
        ({"dataset": Text(TEXT)}, "its dataset is in memory", "text-file, csv"),
        ({"heldout": Text(TEXT)}, "its heldout is in memory"),
        ({"optimizer": optax.sgd(0.1)}, "cannot get what was given in Python as: optimizer"),
    ):
        with refused(*words):
            sweep(replace(experiment, **changes), {"seed": [0]}, tmp_path / "out", launcher=Inline())
    assert not (tmp_path / "out").exists()
    with refused("which need folders"):
        sweep(experiment, {"seed": [0]}, launcher=Inline())


def test_one_process_launches_at_a_time(tmp_path, experiment):
    out = tmp_path / "out"
    (out / "_jobs").mkdir(parents=True)  # a kill may come before the index is written
    sweep(experiment, {"seed": [0]}, out, launcher=Inline())
    with folder.lock(out / "_jobs"), refused("in use by process", exit_code=5):
        sweep(experiment, {"seed": [0, 1]}, out, launcher=Inline())
    assert list(read_index(out)) == ["seed=0"]


def test_a_job_has_all_options_and_loads_the_files_of_local_plugins(tmp_path, experiment):
    file, jobs = tmp_path / "mine.py", tmp_path / "out" / "_jobs"
    file.write_text(
        "import dataclasses, seqjax, seqjax_models\n"
        "@seqjax.register('model', 'mine-in-jobs')\n@dataclasses.dataclass(frozen=True)\n"
        "class Mine(seqjax_models.RNN):\n    pass\n"
    )
    seqjax.plugin.registry.load_file(file)
    model = config.create("model", "mine-in-jobs", hidden=3)
    options = {"devices": 1, "tracker": config.create("tracker", "tensorboard"), "launcher": Watched()}
    sweep(replace(experiment, model=model), {"seed": [0]}, tmp_path / "out", **options)
    flags = ["--config", f"{jobs / 'seed-0.toml'}", "--out", f"{tmp_path / 'out' / 'seed-0'}"]
    flags += ["--checkpoint-seconds", "30.0", "--devices", "1", "--tracker", "tensorboard", "--load", str(file)]
    assert [(sys.executable, "-m", "seqjax", "run", *flags)] == COMMANDS


def test_there_may_be_more_jobs_at_a_time_than_runs():
    """The shares of 10^12 jobs would not fit into the memory."""
    assert Local(jobs=10**12).launch([], lambda: None) == {}


def test_the_share_of_the_cores_does_not_depend_on_what_is_missing(tmp_path, monkeypatch):
    """A run that goes on has to have as many devices as before."""
    monkeypatch.setattr(local, "own_cores", lambda: [3, 5, 6, 7])
    shares, ended = [], type("Ended", (), {"returncode": 0, "poll": lambda self: 0})
    monkeypatch.setattr(local, "_start", lambda job, share: (shares.append(share), ended())[1])
    for number, size in ((None, 1), (1, 4), (2, 2), (3, 1)):
        for count in (1, 3):
            names = [Job(f"{n}", (), tmp_path / "log", tmp_path / "code") for n in range(count)]
            assert Local(jobs=number).launch(names, lambda: None) == {}
        assert {len(share) for share in shares} == {size}
        assert {core for share in shares for core in share} <= {3, 5, 6, 7}
        shares.clear()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_local_jobs_are_resumed_after_a_signal(tmp_path, number):
    """Of the command, which ends its jobs; SIGKILL is sent to one job, and the other one goes on."""
    (tmp_path / "text.txt").write_text(TEXT)
    plain = ["sweep", *FLAGS[:-1], "150", "--seeds", "0,1", "--devices", "1", "--launcher"]
    jobs = [*plain, "local", "--launcher.jobs", "2", "--checkpoint-seconds", "0", "--out", "out"]
    launching = subprocess.Popen(
        [SEQJAX, *jobs], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    run = tmp_path / "out" / "seed-1"
    while not list(run.glob("checkpoints/*.safetensors")):
        assert launching.poll() is None
        time.sleep(0.05)
    job = int((run / ".lock").read_text().split()[1])
    os.kill(job if number == signal.SIGKILL else launching.pid, number)
    said = launching.communicate(timeout=180)[0]
    found = [state.state for state in states(tmp_path / "out")]
    if number == signal.SIGKILL:
        assert (launching.returncode, found) == (2, ["finished", "failed"])
        assert "seed=1: ended by signal 9" in said
    else:
        assert (launching.returncode, found[1]) == (128 + number, "interrupted")
        assert "The same command resumes them" in said
        assert "next     seqjax sweep" in said
    for command in (jobs, [*plain, "none", "--out", "whole"]):
        assert seqjax_command(*command, cwd=tmp_path).returncode == 0
    for seed in (0, 1):
        assert results(tmp_path / "out" / f"seed-{seed}") == results(tmp_path / "whole" / f"seed-{seed}")
