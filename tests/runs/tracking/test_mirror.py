"""A tracker gets what is in the folder of a run, once, and a broken one does not change a training."""

import json
import math
import os
from dataclasses import dataclass

import pytest
from support.crash import crash_after, results
from support.tiny import FULL, TINY, changed, copy, refused

import seqjax
from seqjax import Tracker, sweep
from seqjax.optimizers import Adam
from seqjax.runs import Session
from seqjax.runs.files.rows import read_rows
from seqjax.runs.tracking import mirror
from seqjax.runs.tracking.mirror import Mirror
from seqjax.training.loop import Diverged

CALLS = ("open", "row", "text", "figure", "close")


@dataclass(frozen=True)
class Lines(Tracker):
    """Appends a line of JSON for each call; raises an exception at the first call of `broken`."""

    broken: str = ""
    leaves: bool = False
    file: str = "lines.jsonl"

    def open(self, run, config, epochs):
        session = LinesSession(self, run / self.file)
        session.add("open", config, epochs)
        return session


class LinesSession(Session):
    def __init__(self, tracker, file):
        self.tracker, self.file = tracker, file

    def add(self, call, *values):
        if self.tracker.broken == call:
            raise SystemExit(7) if self.tracker.leaves else RuntimeError(f"no {call}")
        with self.file.open("a") as file:
            file.write(json.dumps([call, *values]) + "\n")

    def row(self, epoch, values):
        self.add("row", epoch, dict(values))

    def text(self, name, text, epoch):
        self.add("text", name, text, epoch)

    def figure(self, name, file, epoch):
        self.add("figure", name, file.name, epoch)

    def close(self):
        self.add("close")


@pytest.fixture(autouse=True)
def registered(forget_local_plugins):
    """Registers the tracker of these tests, for the time of each of them."""
    seqjax.register("tracker", "test-lines")(Lines)


def lines(path):
    return [json.loads(line) for line in (path / "lines.jsonl").read_text().splitlines()]


def rows_sent(path):
    """The rows that a viewer has: a later row of an epoch replaces an earlier one."""
    return {line[1]: line[2] for line in lines(path) if line[0] == "row"}


def rows_kept(path):
    """The rows in the folder, without the numbers that are not known."""
    return {
        row.pop("epoch"): {name: value for name, value in row.items() if not math.isnan(value)}
        for row in read_rows(path)
    }


@pytest.mark.parametrize("when", ["in training", "when it is opened"])
def test_a_tracker_gets_everything_once(tmp_path, when):
    e = changed(epochs=3, evaluate_every=2)
    e.run(tmp_path, tracker=Lines() if when == "in training" else None)
    if when == "when it is opened":
        e.run(tmp_path, tracker=Lines())
    found = lines(tmp_path)
    assert rows_sent(tmp_path) == rows_kept(tmp_path)
    assert [line[0] for line in found].count("row") == 3
    texts = {line[1]: line[2] for line in found if line[0] == "text"}
    assert texts == {
        "config": (tmp_path / "config.toml").read_text(),
        "samples": (tmp_path / "samples.txt").read_text(),
    }
    assert [line[1:] for line in found if line[0] == "figure"] == [["history", "history.png", 3]]
    assert found[0][2] == 0
    assert found[0][1] == {**found[0][1], "model.plugin": "seqjax/rnn", "model.hidden": 8, "epochs": 3, "seed": 0}
    assert [line[0] for line in found].count("open") == [line[0] for line in found].count("close") == 1
    e.run(tmp_path, tracker=Lines())
    assert lines(tmp_path) == found, "nothing is new, so that no session is opened"


def test_more_epochs_add_their_rows_and_what_has_changed(tmp_path):
    changed(epochs=1).run(tmp_path, tracker=Lines())
    changed(epochs=3).run(tmp_path, tracker=Lines())
    calls = [tuple(line[:2]) for line in lines(tmp_path)[1:]]
    assert calls.count(("text", "config")) == 2
    assert [call for call in calls if call[0] == "row"] == [("row", 1), ("row", 2), ("row", 3)]
    assert rows_sent(tmp_path) == rows_kept(tmp_path)


@pytest.mark.parametrize(
    ("chunks", "checkpoint_seconds", "seconds"),
    [(4, 0, 0.0), (4, 0, 1e9), (2, 30, 0.0)],
    ids=["account after each row", "no account", "no checkpoint"],
)
def test_what_comes_again_after_a_kill_is_sent_again(tmp_path, monkeypatch, chunks, checkpoint_seconds, seconds):
    """A viewer may drop all that it has of epochs that come again, so that texts come again too."""
    monkeypatch.setattr(mirror, "SECONDS", seconds)
    e = changed(epochs=3)
    with monkeypatch.context() as patch, crash_after(patch, chunks):
        patch.setattr(Mirror, "close", Mirror.abandon)  # a kill lets no session end
        e.run(tmp_path, tracker=Lines(), checkpoint_seconds=checkpoint_seconds)
    before = rows_sent(tmp_path)
    last = chunks // 2
    assert list(before) == list(range(1, last + 1))  # of which the last checkpoint has one fewer
    e.run(tmp_path, tracker=Lines())
    assert rows_sent(tmp_path) == rows_kept(tmp_path)
    assert rows_sent(tmp_path)[last]["seconds"] != before[last]["seconds"]
    assert [line[1] for line in lines(tmp_path) if line[0] == "text"] == ["config", "config", "samples"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a run without a tracker."""
    return TINY.run(tmp_path_factory.mktemp("plain") / "run").path


@pytest.mark.parametrize(("call", "leaves"), [*((call, False) for call in CALLS), ("row", True)])
def test_a_broken_tracker_warns_and_changes_no_result(plain, tmp_path, capsys, call, leaves):
    path = tmp_path / "tracked"
    run = TINY.run(path, tracker=Lines(call, leaves))
    out = capsys.readouterr().out
    assert run.finished
    assert results(path) == results(plain)
    assert out.count("warning") == 1
    assert f"{'SystemExit: 7' if leaves else f'RuntimeError: no {call}'}\n" in out
    assert f"tracker test-lines:broken={call}" in out
    assert "raise" in out, "the author's line"
    assert "the same experiment in this folder sends the rest\n" in out
    TINY.run(path, tracker=Lines())
    assert rows_sent(path) == rows_kept(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, to which nothing can be written")
def test_a_full_disk_ends_no_training(plain, tmp_path, capsys):
    TINY.run(tmp_path / "tracked", tracker=Lines(file="/dev/full"))
    assert "test-lines:file=/dev/full: cannot write: No space left on device; free" in capsys.readouterr().out
    path = copy(plain, tmp_path / "run")
    (path / "tracking" / "tracked.json").mkdir(parents=True)  # no account can be written
    assert TINY.run(path, tracker=Lines()).finished
    assert "tracked.json cannot be written" in capsys.readouterr().out


def test_a_run_is_mirrored_by_one_process_at_a_time(plain, tmp_path):
    path = copy(plain, tmp_path / "run")
    other = Mirror(Lines(), path, 1)
    with refused(f"in use by process {os.getpid()}.*; the same experiment .* sends the rest when it has ended$", 5):
        Mirror(Lines(), path, 1)
    other.abandon()
    TINY.run(path, tracker=Lines())
    assert rows_sent(path) == rows_kept(path)


def test_a_run_that_has_diverged_is_mirrored_when_it_is_opened(tmp_path):
    e = changed(epochs=9, optimizer=Adam(1e38, clip_norm=1.0))
    for tracker in (None, Lines()):
        with pytest.raises(Diverged):
            e.run(tmp_path, tracker=tracker)
    assert [line[1] for line in lines(tmp_path) if line[0] == "text"] == ["config"]
    assert rows_sent(tmp_path) == rows_kept(tmp_path)


def test_each_run_of_a_sweep_is_mirrored(tmp_path):
    for _ in range(2):
        sweep(changed(epochs=1), {"seed": [0, 1]}, tmp_path, tracker=Lines())
        for seed in (0, 1):
            assert rows_sent(tmp_path / f"seed-{seed}") == rows_kept(tmp_path / f"seed-{seed}")
            assert len(lines(tmp_path / f"seed-{seed}")) == 6


def test_a_run_in_memory_has_no_folder_to_mirror():
    with refused("a tracker mirrors the folder of a run", 2):
        TINY.run(tracker=Lines())


def test_a_damaged_account_ends_no_training(plain, tmp_path, capsys):
    path = copy(plain, tmp_path / "run")
    (path / "tracking").mkdir()
    for account in ('{"test-lines": {"epochs": "three"}}', '{"test-lines": {"epochs": -1}}', "[]", "{"):
        (path / "tracking" / "tracked.json").write_text(account)
        with refused(r"tracked\.json is damaged"):
            Mirror(Lines(), path, 1)
    TINY.run(path, tracker=Lines())
    assert "warning  tracker test-lines: " in capsys.readouterr().out


def test_a_run_that_stopped_early_is_mirrored_when_it_gets_more_epochs(tmp_path):
    stops = changed(FULL, epochs=5, stop_after=1)
    stops.run(tmp_path)
    run = changed(stops, epochs=9).run(tmp_path, tracker=Lines())
    calls = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [call[1] for call in calls if call[0] == "row"] == [row["epoch"] for row in run.metrics]
