"""The referee as it is typed: planted strategies, kills, and a strategy of somebody else."""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from protocol.stages import encode
from protocol.tasks import TASKS
from protocol.training import compile_run

from seqjax.gradients import Full
from seqjax.models import RNN

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "referee.py"
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
    answer = compile_run(task.problem(model), Full(), long)(7, 0.003, None, long).params
    np.savez(folder / "answer.npz", *jax.tree.leaves(answer))
    flags = ("--strategies", "noise,oracle,snap,truncated:steps=8", "--load", PLANTED, "--tasks", "add,unlearnable")
    printed = referee(folder, *flags, "--models", MODEL, "--updates", 300, ORACLE=str(folder / "answer.npz"))
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


def test_full_again_ties_and_the_wrong_sign_is_worst(planted):
    found = {
        row["strategy"]: row["verdict"] for row in rows(planted[0], "data/verdicts") if "controls" in row["family"]
    }
    assert found["twin"] in ("same", "tie")
    assert found["wrong-sign"] == "worse"
    scores = {
        row["strategy"]: float(row["score (95 % interval)"].split()[0])
        for row in rows(planted[0], "runs")
        if row["problem"] == "add, rnn"
    }
    assert scores["wrong-sign"] == max(scores.values())


def test_a_task_that_nobody_learned_is_listed_and_does_not_count(planted):
    folder, printed = planted
    counts = {row["problem"]: row["counts"] for row in rows(folder, "problems")}
    assert counts["add, rnn"] == "counts"
    assert counts["unlearnable, rnn"].startswith("not admitted: the interval of full is not below that of")
    text = (folder / "report" / "report.md").read_text("utf-8")
    assert "**unlearnable, rnn does not count**: the interval of full is not below that of" in text
    assert "unlearnable" in printed


def test_all_verdicts_follow_from_the_published_losses_and_an_edited_loss_is_found(planted, tmp_path):
    folder = planted[0] / "report"
    recompute = [sys.executable, str(ROOT / "docs" / "referee" / "recompute.py")]
    done = subprocess.run([*recompute, str(folder)], capture_output=True, text=True)
    total = len(rows(planted[0], "data/verdicts"))
    assert total > 20
    assert done.stdout == f"{total} of {total} verdicts are the same\n"
    shutil.copytree(folder, tmp_path / "copy")
    losses = tmp_path / "copy" / "data" / "losses.csv"
    text = losses.read_text("utf-8")
    (line, *_) = [each for each in text.splitlines() if ",full,full,0.003,1," in each and "a whole run" in each]
    losses.write_text(text.replace(line, ",".join([*line.split(",")[:9], *["0.46"] * 10])))
    done = subprocess.run([*recompute, str(tmp_path / "copy")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "different: " in done.stdout


def test_a_stream_is_compared_by_windows_and_its_verdicts_follow_from_its_losses(tmp_path):
    """On `add`, whose lags are longer than a window of one step."""
    printed = referee(
        tmp_path, "--edition", "stream", "--tasks", "add", "--models", "rtu:hidden=8,leaky-rnn:hidden=4", "--rows", 1,
        "--windows", "1,16", "--samples", 16_000, "--seeds", 6, "--strategies", "rtrl",
    )  # fmt: skip
    assert "A window may be shorter than what the task needs" in printed
    verdicts = rows(tmp_path, "data/verdicts")
    assert ("windows of 1, rtu", "rtrl @ 1", "better") in [
        (row["family"], row["strategy"], row["verdict"]) for row in verdicts
    ]
    recompute = [sys.executable, str(ROOT / "docs" / "referee" / "recompute.py"), str(tmp_path / "report")]
    done = subprocess.run(recompute, capture_output=True, text=True)
    assert done.stdout == f"{len(verdicts)} of {len(verdicts)} verdicts are the same\n"


def test_a_row_of_somebody_else_is_checked(planted, tmp_path):
    flags = ("--strategies", "noise,oracle,snap,truncated:steps=8", "--load", PLANTED, "--tasks", "add,unlearnable")
    flags = (*flags, "--models", MODEL, "--updates", 300)
    (file,) = (planted[0] / "stages").glob("runs-add-rnn-window-24-snap-*.json")

    def checked(file, *flags):
        return subprocess.run(command(tmp_path, *flags, "--check", file), capture_output=True, text=True)

    done = checked(file, *flags)
    assert "is whole, and has" in done.stdout, done.stderr
    assert "of them were repeated, and have the same losses but for rounding" in done.stdout
    assert "The row has 1 of the 2 results of its strategies, without runs unlearnable, rnn" in done.stdout
    content = json.loads(file.read_text())
    # All blocks of each run but the last four are true, and these are better than they were.
    for each in content["result"]["runs"]:
        each["blocks"] = [[*blocks[:-4], *(0.8 * loss for loss in blocks[-4:])] for blocks in each["blocks"]]
    forged = tmp_path / file.name
    forged.write_bytes(encode(file.name, content["result"], content["made"]))
    assert "the loss of block 17 of 20 is" in checked(forged, *flags).stderr
    assert "is no result of this command" in checked(file, *flags[:-1], 301).stderr


def test_the_fields_of_an_entry_are_chosen_as_its_rate_is(tmp_path):
    flags = ("--tasks", "add", "--models", MODEL, "--updates", 100, "--seeds", 4, "--strategies", "immediate")
    referee(tmp_path, *flags, "--also", "truncated", "--tune", "steps=1,steps=8")
    chosen = [row for row in rows(tmp_path, "data/losses") if row["contender"] == "truncated"]
    assert {row["variant"] for row in chosen} == {"truncated:steps=1", "truncated:steps=8"}
    scores = {row["strategy"]: float(row["score (95 % interval)"].split()[0]) for row in rows(tmp_path, "runs")}
    assert scores["truncated"] < scores["immediate"]


def test_after_ten_kills_the_page_is_the_same(tmp_path):
    """Prices are measured, and differ from run to run: both folders have the same ones in the end."""
    flags = ("--tasks", "add,influence-balancing", "--models", "rnn:hidden=4", "--updates", 40, "--seeds", 4)
    flags = (*flags, "--strategies", "snap,uoro")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    referee(whole, *flags)
    assert kill(killed, flags, after=6), "it measures for longer than this"
    (killed / "stages").mkdir(parents=True, exist_ok=True)
    for file in (whole / "stages").glob("price-*.json"):
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
    assert {Path("report/results.json"), Path("report/report.md"), Path("report/score_by_task.png")} < files
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


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("raise ZeroDivisionError('no estimate')", "its error is printed above"),
        ("os.kill(os.getpid(), 9)", "its process was ended by the signal SIGKILL"),
    ],
)
def test_a_worker_that_fails_is_an_error_of_the_command(tmp_path, fails, words):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import dataclasses, os, seqjax\n"
        "@seqjax.register('gradient', 'broken')\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Broken(seqjax.Gradient):\n"
        "    claim, of = 'biased', 'window'\n"
        "    def estimate(self, problem, params, start, memory, batch, noise):\n"
        f"        {fails}\n"
    )
    done = subprocess.run(
        command(tmp_path, "--tasks", "iid", "--strategies", "broken", "--load", mine, "--updates", 20, "--seeds", 4),
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "no estimate" in done.stderr or "raise" not in fails
    assert f"price iid, rnn, window 32 broken: {words}" in done.stderr
