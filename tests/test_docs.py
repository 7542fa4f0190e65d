"""Every code block and command of the documents runs."""

import contextlib
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from seqjax.cli import main
from seqjax.plugin import registry

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TINY = {"--epochs": "1", "--train": "9000", "--heldout": "500", "--model.hidden": "8"}
ELSEWHERE = ("make ", "python3.13 -m venv", "uv venv", "pip install")  # run by .ci/run, but for what takes an hour


def blocks(language: str) -> list:
    return [
        pytest.param(document, block, id=f"{document.name}-{language}-{n}")
        for document in DOCUMENTS
        for n, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```", document.read_text("utf-8"), re.M | re.S))
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the files that the documents speak of."""
    monkeypatch.chdir(tmp_path)
    before = set(registry._registered)
    text = "It was a dark and stormy night; the rain fell in torrents. " * 200
    for name in ("book.txt", "my-book.txt"):
        Path(name).write_text(text)
    readme = (ROOT / "README.md").read_text("utf-8")
    Path("mine.py").write_text(re.search(r"^```python\n(# mine.py\n.*?)^```", readme, re.M | re.S)[1])
    Path("experiments").symlink_to(ROOT / "experiments")
    Path("my_question.py").write_text('"""Does it rain?   python my_question.py"""')
    yield tmp_path
    for key in set(registry._registered) - before:  # a document's own plugins last one test
        if registry._registered[key][0].distribution == registry.LOCAL:
            del registry._registered[key]


@pytest.mark.parametrize(
    "document",
    [pytest.param(path, id=path.name, marks=[pytest.mark.slow] * (path.name == "python.md")) for path in DOCUMENTS],
)
def test_python_blocks_run_in_order(document, folder, capsys):
    code = [block.values[1] for block in blocks("python") if block.values[0] == document]
    small = "\n".join(code).replace("hidden=256", "hidden=8").replace("epochs=20", "epochs=1")
    exec(compile(small, document.name, "exec"), {"__name__": "document"})


@pytest.mark.slow
def test_commands_run_in_order(folder, capsys, monkeypatch):
    commands = [
        line.removeprefix("$ ").partition("  #")[0].strip()
        for block in blocks("console")
        for line in block.values[1].splitlines()
        if line.startswith("$ ")
    ]
    assert any(command.startswith("seqjax") for command in commands)
    for command in commands:
        if command.startswith(ELSEWHERE):
            continue
        program, *args = shlex.split(command)
        if program == "python":
            run_script(args, monkeypatch)
            continue
        assert program == "seqjax", command
        tiny = TINY if args[0] in ("run", "sweep") and "--help" not in args else {}
        assert main([*args, *(part for flag in tiny if flag not in args for part in (flag, tiny[flag]))]) == 0, command
        assert "Traceback" not in capsys.readouterr().err


def run_script(args, monkeypatch):
    """A script of the checkout, from the folder that the documents are read in."""
    monkeypatch.setattr(sys, "argv", args)
    ends = pytest.raises(SystemExit, match=r"^0$") if "--help" in args else contextlib.nullcontext()
    with ends:
        runpy.run_path(str(ROOT / args[0]), run_name="__main__")
