"""A few cases of the fuzzer hold, and it finds what does not."""

import os
import sys

import pytest
from support.shell import run

from faults import fuzz
from faults.children import Outcome

QUICK = """
from faults.fuzz import parts
if __name__ == "__main__":
    for part in parts(quick=True):
        print(part.what, part.tried, part.held, *part.problems, sep="\\n")
        assert part.tried and part.held == part.tried
"""


@pytest.mark.slow
def test_some_cases_hold(tmp_path):
    (tmp_path / "quick.py").write_text(QUICK)
    done = run([sys.executable, tmp_path / "quick.py"], PYTHONPATH=os.pathsep.join(sys.path))
    assert done.returncode == 0, done.stdout + done.stderr


BAD = fuzz.Case("changed", ["evaluate", "rnn"], ["rnn"], "rnn/codec.json", type("Any", (), {"keeps_file": True}))
SAID = Outcome(4, "", "seqjax: it is damaged\n", False)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"hung": True, "code": -9}, "hangs"),
        ({"code": 97}, "unpickles"),
        ({"code": -6}, "exit code -6"),
        ({"code": 2}, "exit code 2 in place of 4"),
        ({"code": 0}, "exit code 0 in place of 4"),
        ({"err": ""}, "without a message"),
        ({"err": "Traceback (most recent call last):\n  x\nKeyError: 1\n"}, "a traceback: KeyError: 1"),
        ({"code": 1, "err": "seqjax: a fault of seqjax itself"}, "a traceback"),
    ],
    ids=str,
)
def test_what_does_not_hold_is_found(change, problem):
    found = fuzz._problem(BAD, SAID._replace(**change), {"rnn/codec.json": "a"}, {"rnn/codec.json": "a"})
    assert found is None if problem is None else problem in found


@pytest.mark.parametrize("after", [{}, {"text.txt": "b"}])
def test_a_file_that_is_changed_or_deleted_is_found(after):
    assert "it changed text.txt" in fuzz._problem(BAD, SAID, {"text.txt": "a"}, after)
    assert fuzz._problem(BAD, SAID, {"rnn/.lock": "a"}, {}) is None


CHILDREN = """
import os, pickle, time
from pathlib import Path
from faults import children
children.SECONDS = 1.0
work = {
    "ends": lambda: print("out") or 3,
    "raises": lambda: 1 / 0,
    "aborts": os.abort,
    "hangs": lambda: time.sleep(60),
    "unpickles": lambda: pickle.loads(pickle.dumps(Path("x"))) and 0,
}
for name, outcome in children.outcomes((name, Path("."), function) for name, function in work.items()):
    print(name, outcome.code, outcome.hung, "Traceback" in outcome.err, repr(outcome.out))
"""


def test_how_a_process_ended_is_seen(tmp_path):
    done = run([sys.executable, "-c", CHILDREN], cwd=tmp_path, PYTHONPATH=os.pathsep.join(sys.path))
    assert sorted(done.stdout.splitlines()) == [
        "aborts -6 False False ''",
        "ends 3 False False 'out\\n'",
        "hangs -9 True False ''",
        "raises 1 False True ''",
        "unpickles 97 False False ''",
    ]


def test_the_same_cases_are_drawn_each_time(tmp_path):
    (tmp_path / "rnn").mkdir()
    (tmp_path / "rnn" / "config.toml").write_text('seed = 0\n[model]\nplugin = "seqjax/rnn"\n')
    for sort in fuzz.COUNTS:
        first, again = ([str(case) for case in fuzz._draw(sort, 20, tmp_path, ["rnn"])] for _ in range(2))
        assert first == again
        assert len(set(first)) > 10
