"""The example of a search with optuna. `make search` installs optuna and runs this test; elsewhere it is skipped."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.shell import run

from seqjax import Run

pytest.importorskip("optuna", reason="optuna is not installed; `make search` installs it and runs this test")
EXAMPLE = Path(__file__).parents[2] / "examples" / "search_optuna.py"


def test_a_killed_search_goes_on_to_the_same_table_and_prunes_the_same_trials(tmp_path):
    whole = run([sys.executable, EXAMPLE, tmp_path / "whole"])
    command = [sys.executable, EXAMPLE, tmp_path / "killed"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "Trial 3 " in line:
                process.kill()
    assert process.returncode == -signal.SIGKILL
    resumed = run([sys.executable, EXAMPLE, tmp_path / "killed"])
    assert (whole.returncode, resumed.returncode) == (0, 0), whole.stderr + resumed.stderr
    assert resumed.stdout == whole.stdout
    best, _, *rows = whole.stdout.splitlines()
    found = [Run.open(tmp_path / "whole" / f"trial-{n}") for n in range(len(rows))]
    pruned = [n for n, each in enumerate(found) if each.stopped_at]
    assert 0 < len(pruned) < len(rows)
    assert pruned == [int(n) for n in re.findall(r"Trial (\d+) pruned", whole.stderr)]
    losses = [each.metrics[-1]["heldout_loss"] for each in found if not each.stopped_at]
    assert f"held-out loss {min(losses):.4f}, " in best
