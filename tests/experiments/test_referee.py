"""The referee as it is typed: planted strategies, kills, and a strategy of somebody else."""

import csv
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from protocol.tasks import TASKS
from protocol.training import compile_run

from seqjax.gradients import Full
from seqjax.models import RNN

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "experiments" / "referee.py"
PLANTED = Path(__file__).with_name("planted.py")
MODEL = "rnn:hidden=16:initializer=uniform"


def command(folder, *flags):
    return [sys.executable, str(SCRIPT), "--folder", str(folder), "--out", str(folder / "report"), *map(str, flags)]


def referee(folder, *flags, **environ):
    """Runs the referee to its end; returns what it printed."""
    done = subprocess.run(command(folder, *flags), capture_output=True, text=True, env=os.environ | environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(folder, table):
    with (folder / "report" / f"{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A comparison on two tasks: `add`, whose answer the oracle knows, and one that cannot be learned."""
    folder = tmp_path_factory.mktemp("planted")
    task, model = TASKS["add"], RNN(hidden=16, initializer="uniform")
    long = task.feed(seed=7, updates=4000)
    answer = compile_run(task.problem(model), Full(), long)(7, 0.003, long).params
    np.savez(folder / "answer.npz", *jax.tree.leaves(answer))
    strategies = ("--strategies", "noise,oracle,snap,truncated:steps=8", "--load", PLANTED)
    printed = referee(
        folder, "--tasks", "add,unlearnable", "--models", MODEL, "--updates", 300, *strategies,
        ORACLE=str(folder / "answer.npz"),
    )  # fmt: skip
    return folder, printed


def test_the_oracle_is_first_and_the_random_direction_last(planted):
    ranking = rows(planted[0], "ranking")
    names = [row["strategy"] for row in ranking]
    assert sorted(names) == sorted(["full", "immediate", "noise", "oracle", "snap", "truncated:steps=8"])
    assert names[0] == "oracle"
    assert names[-1] == "noise"
    against = {row["strategy"]: row["against full"] for row in ranking}
    assert against["oracle"] == "better"
    assert against["noise"] == "worse"


def test_a_task_that_nobody_learned_is_listed_and_does_not_count(planted):
    folder, printed = planted
    counts = {row["task"]: row["counts"] for row in rows(folder, "tasks")}
    assert counts["add"] == "admitted"
    assert counts["unlearnable"].startswith("not admitted: the interval of full is not below that of")
    text = (folder / "report" / "report.md").read_text("utf-8")
    assert "**unlearnable does not count**: the interval of full is not below that of" in text
    assert "These tasks count: add." in text
    assert "unlearnable" in printed


def test_each_conclusion_is_no_stronger_than_its_interval(planted):
    """Read from the tables again: a tie lies within ± .05, and what is better or worse excludes zero, with Holm."""
    folder, _ = planted
    assert not any(row["against full"] for row in rows(folder, "on_unlearnable"))
    found = [row for row in rows(folder, "on_add") if row["against full"]]
    assert len(found) == 5
    for row in found:
        # A text that begins with a minus has a quote before it in a CSV file.
        shown = row["score minus that of full"].removeprefix("'")
        value, low, high = map(float, re.findall(r"-?[\d.]+", shown))
        word, p = row["against full"], float(row["p, Holm"])
        assert low <= value <= high
        if word == "tie":
            assert -0.05 < low <= high < 0.05
        elif word in ("better", "worse"):
            assert p <= 0.05
            assert (high < 0) if word == "better" else (low > 0)
        else:
            assert word == "undecided"
            assert low <= 0 <= high or p > 0.05


def test_after_ten_kills_the_page_is_the_same(tmp_path):
    """Prices are measured, and differ from run to run: both folders have the same ones in the end."""
    flags = ("--tasks", "add,influence-balancing", "--models", "rnn:hidden=4", "--updates", 40, "--seeds", 5)
    flags = (*flags, "--strategies", "snap,uoro")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    referee(whole, *flags)
    assert kill(killed, flags, after=6), "it measures for longer than this"
    (killed / "stages").mkdir(parents=True, exist_ok=True)
    for file in (whole / "stages").glob("measures-*.json"):
        shutil.copy(file, killed / "stages")
    rng, kills, longest = random.Random(0), 1, 12.0
    while kills < 10:
        # Late enough for some stages at first. When all are computed, the command ends sooner.
        if kill(killed, flags, after=rng.uniform(longest / 3, longest)):
            kills += 1
        else:
            longest /= 2
    printed = referee(killed, *flags)
    assert "Which gradient through time is worth its price?" in printed
    files = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
    assert files == {path.relative_to(killed) for path in killed.rglob("*") if path.is_file()}
    assert {Path("report/report.html"), Path("report/report.md"), Path("report/score_by_task.png")} < files
    for name in files:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def kill(folder, flags, after):
    """Types the command and kills it after some seconds; whether it still ran."""
    process = subprocess.Popen(command(folder, *flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def test_an_error_in_a_worker_is_an_error_of_the_command(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import dataclasses, seqjax\n"
        "@seqjax.register('gradient', 'broken')\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Broken(seqjax.Gradient):\n"
        "    claim, of = 'biased', 'window'\n"
        "    def estimate(self, problem, params, start, memory, batch, noise):\n"
        "        raise ZeroDivisionError('no estimate')\n"
    )
    done = subprocess.run(
        command(tmp_path, "--tasks", "iid", "--strategies", "broken", "--load", mine, "--updates", 20, "--seeds", 5),
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "no estimate" in done.stderr
    assert "this stage failed with the error that is printed above: measures iid rnn" in done.stderr
