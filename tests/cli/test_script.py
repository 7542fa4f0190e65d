"""Experiment scripts: flags, reports and errors."""

import json
import sys
from pathlib import Path

import pytest

import seqjax

SCRIPT = '''"""Does it count? 100 % of it   python count.py --steps 5

It should.
"""
import json
from typing import Annotated, Literal

from annotated_types import Interval

import seqjax as sj


def main(
    steps: Annotated[int, Interval(ge=1)] = 5, rate: float = 1, name: str = "x", keep: bool = False,
    lags: tuple[int, ...] = (1, 4), share: int | float = 2, how: Literal["sum", "mean"] = "sum",
    limit: float | None = None, dataset: sj.Dataset | None = None, learning_rate=0.1,
) -> sj.Report:
    if name == "json":
        return json.dumps([steps, rate, name, keep, lags, share, how, limit, dataset is None, learning_rate])
    if name == "nothing":
        return None
    if name == "error":
        raise sj.Error("it diverged", exit_code=3)
    if name == "bug":
        raise ZeroDivisionError("a bug")
    if name == "stop":
        raise KeyboardInterrupt
    report = sj.Report(__file__)
    report.row("sum", sum(range(steps)), 10)
    return report


if __name__ == "__main__":
    sj.script(main)
'''
VALUES = [5, 1, "json", False, [1, 4], 2, "sum", None, True, 0.1]


@pytest.fixture
def quick(tmp_path, monkeypatch, capsys):
    """Runs the script in this process. Returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("count.py").write_text(SCRIPT, encoding="utf-8")

    def quick(*argv, text=SCRIPT):
        module = type(sys)("script_under_test")
        module.__file__ = str(tmp_path / "count.py")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(sys, "argv", ["count.py", *map(str, argv)])
        exec(compile(text, module.__file__, "exec"), module.__dict__)
        code = 0
        try:
            seqjax.script(module.main)
        except SystemExit as leaving:
            code = leaving.code or 0
        return code, *capsys.readouterr()

    return quick


def test_a_report_is_printed_and_saved(quick):
    code, out, err = quick("--steps", "7")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Does it count? 100 % of it",
        *("what  got  expected  met", "sum   21   10        no", ""),
        "saved    reports/count",
    ]
    assert "| sum | 21 | 10 | no |" in Path("reports", "count", "report.md").read_text("utf-8")
    assert json.loads(Path("reports", "count", "results.json").read_text("utf-8"))["seconds"] > 0


def test_a_report_is_saved_in_the_folder_of_out(quick):
    code, out, _ = quick("--out", "deep/er")
    assert (code, out.splitlines()[-1]) == (0, "saved    deep/er")
    assert Path("deep", "er", "report.md").is_file()
    assert not Path("reports").exists()


def test_a_main_with_an_option_out_gets_the_folder_of_the_report(quick):
    text = "def main(out: str | None = 'unset'):\n    return repr(out)\n"
    assert quick("--out", "here", text=text)[1] == "'here'\n"
    assert quick(text=text)[1] == "None\n"


@pytest.mark.parametrize(
    ("argv", "index", "value"),
    [
        (["--steps=9"], 0, 9),
        (["--rate", "-0.5"], 1, -0.5),
        (["--keep", "false"], 3, False),
        (["--lags", "2,3,5"], 4, [2, 3, 5]),
        (["--lags", "2,3", "--lags=5"], 4, [2, 3, 5]),
        (["--learning_rate", "0.2"], 9, 0.2),
    ],
)
def test_the_type_of_an_option_decides_how_its_flag_is_read(quick, argv, index, value):
    code, out, err = quick("--name", "json", *argv)
    assert (code, err) == (0, "")
    got = json.loads(out)
    assert got == [*VALUES[:index], value, *VALUES[index + 1 :]]
    assert type(got[index]) is type(value)


def test_options_may_be_required_and_annotations_strings(quick):
    postponed = "from __future__ import annotations\n"
    text = "def main(steps: int, rate: float = 0.5):\n    return steps * rate\n"
    assert quick("--steps", "3", text=postponed + text) == (0, "1.5\n", "")
    assert quick("--steps", "0", text=text) == (0, "0.0\n", "")
    code, out, err = quick(text=text)
    assert (code, out) == (2, "")
    assert "steps: missing; must be int" in err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--step", "3"], ["--step", "'--steps'", "count.py --help"]),
        (["--dataset", "x"], ["--dataset"]),
        (["3"], ["no such argument: 3"]),
        (["--steps"], ["--steps", "expected one argument"]),
        (["--steps", "0", "--rate", "fast", "--lags", "1,x"], ["steps = 0: must be int >= 1", "rate = 'fast'", "lags"]),
        (["--load", "nowhere.py"], ["nowhere.py", "no such file"]),
    ],
)
def test_bad_flags_and_values_are_errors(quick, argv, words):
    code, out, err = quick(*argv)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_help_is_the_docstring_and_the_flags(quick):
    code, out, _ = quick("--help")
    assert code == 0
    words = ["Does it count? 100 % of it", "It should.", "python count.py", "default reports/count", "--debug"]
    words += ["--steps X", "int >= 1; default 5", "default 1,4", "default false", "default none", "--learning-rate"]
    for word in words:
        assert word in " ".join(out.split())
    assert "--dataset" not in out
    text = (
        "def main(unit: str = '5 %', times: int = 1):\n"
        '    """Counts.\n\n    Args:\n        unit: what is\n            counted.\n        times: how often.\n\n'
        '    Returns:\n        all: of it.\n    """\n'
    )
    out = " ".join(quick("--help", text=text)[1].split())
    assert "--unit X what is counted. (a string; default 5 %)" in out
    assert "--times X how often. (int; default 1)" in out


@pytest.mark.parametrize(("name", "code", "words"), [("error", 3, "it diverged"), ("stop", 130, "interrupted")])
def test_an_error_ends_the_script_with_its_exit_code(quick, name, code, words):
    ended, out, err = quick("--name", name)
    assert (ended, out) == (code, "")
    assert words in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback_and_a_bug_keeps_it(quick):
    with pytest.raises(seqjax.Error, match="it diverged"):
        quick("--name", "error", "--debug")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        quick("--name", "bug")


def test_another_result_is_printed_and_not_saved(quick):
    assert quick("--name", "nothing") == (0, "", "")
    assert not Path("reports").exists()


def test_a_folder_that_cannot_be_made_is_an_error_before_the_work(quick):
    code, out, err = quick("--out", "count.py/x", "--name", "bug")
    assert (code, out) == (6, "")
    assert "count.py/x" in err


@pytest.mark.parametrize(
    ("option", "words"), [("out: str = 'x'", "--out is a flag of every script"), ("dataset: list", "main(dataset)")]
)
def test_a_main_that_cannot_be_a_script_is_an_error(quick, option, words):
    code, _, err = quick(text=f"def main({option}):\n    pass\n")
    assert code == 2
    assert words in err
