"""The trial of signals finds faults that are planted. It forks, and so needs a process in which JAX has not started."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
START = """
import contextlib, json
from faults import signals
from seqjax.cli import command
from seqjax.runs import record
from seqjax.terminal.lasting import LastingStream
"""


def tried(names, plant="None"):
    """The problems of the cases of these names, where `plant` is evaluated in each process before its command."""
    script = (
        f"{START}\nall = [*signals.at_moments(), *signals.hanging(), *signals.unread()]\n"
        f"cases = [case for case in all if case.name in {names!r}]\nassert len(cases) == {len(names)}\n"
        f"signals.SECONDS = 30\nfor problem in signals.tried(cases, lambda: {plant}): print(json.dumps(problem))"
    )
    env = os.environ | {"PYTHONPATH": str(TESTS), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=env, text=True, timeout=240, check=True
    )
    return list(map(json.loads, done.stdout.splitlines()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "plant", "words"),
    [
        (
            ["SIGTERM, later step"],
            "setattr(record, 'noticed', lambda _: contextlib.nullcontext(lambda: None))",
            "chunks were lost",
        ),
        (["SIGHUP, later step"], "setattr(record.Recorder, 'save', lambda self: None)", "chunks were lost"),
        (
            ["SIGTERM, prepare"],
            "setattr(command, 'ending_at_signals', lambda: contextlib.nullcontext(lambda: None))",
            "exit code -15 in place of 143",
        ),
        (
            ["run, a reader of stdout that goes away"],
            "setattr(LastingStream, '_try', lambda self, work: work(self.stream))",
            "exit code ",
        ),
    ],
    ids=["no handler", "no checkpoint", "no handler before training", "a write that fails"],
)
def test_a_planted_fault_is_found(names, plant, words):
    assert tried(names) == [None]
    (problem,) = tried(names, plant)
    assert problem.startswith(names[0])
    assert words in problem
