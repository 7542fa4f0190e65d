"""The documents run, and name what there is."""

import ast
import builtins
import contextlib
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import tree
from support.shell import call
from support.together import free_port
from test_architecture import LAYERS

from seqjax import Run
from seqjax.cli import main
from seqjax.plugin import registry

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted({*(ROOT / "docs").glob("*.md")} - {ROOT / "docs" / "gallery.md"}),  # tests/test_gallery.py runs its code
    *sorted((ROOT / "docs").glob("course/*.md")),
    *sorted((ROOT / "plugins").glob("*/README.md")),
]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
TINY = {"--epochs": "1", "--train": "9000", "--heldout": "500", "--model.hidden": "8"}
NOT_RUN = ("make ", "python3.13 -m venv", "uv ", "pip install", ".venv/bin/pip install")  # .ci/run runs most of them
TOGETHER = "JAX_COORDINATOR_ADDRESS=localhost:12345 "
"""The beginning of a command that starts one of several processes."""


ONE_AFTER_ANOTHER = [
    ["README.md"],
    ["accelerators.md"],
    ["command-line.md", "gradients.md"],
    ["plugins.md"],
    ["referee.md"],
    ["simulators.md"],
    ["work.md"],
    ["8-6-concise.md"],
]
"""The documents with commands. Those of one list use the runs of each other, so they share a folder."""


def blocks(language: str) -> list:
    return [
        pytest.param(document, block, id=f"{document.name}-{language}-{n}")
        for document in DOCUMENTS
        for n, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```", document.read_text("utf-8"), re.M | re.S))
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch, forget_local_plugins):
    """A working folder with the files that the documents mention."""
    monkeypatch.chdir(tmp_path)
    text = "It was a dark and stormy night; the rain fell in torrents. " * 200
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # that of another document
    for name in ("book.txt", "my-book.txt"):
        Path(name).write_text(text)
    rows = "\n".join(f"{n % 7},{n % 5},{n % 3}" for n in range(10_000))
    Path("measurements.csv").write_text(f"temperature,wind,power\n{rows}\n")
    for document in (ROOT / "docs" / "plugins.md", ROOT / "README.md"):  # README has the shorter mine.py
        for block in re.findall(r"^```python\n(.*?)^```", document.read_text("utf-8"), re.M | re.S):
            as_import(block)
    Path("experiments").symlink_to(ROOT / "experiments")
    Path("my_question.py").write_text('"""Does it rain?   python my_question.py"""')
    return tmp_path


def as_import(block: str) -> str:
    """A block that begins with the name of a file is written to this file, or added to it, and imported."""
    name = re.match(r"# (\w+)\.py(, continued)?\n", block)
    if not name:
        return block
    file = Path(f"{name[1]}.py")
    file.write_text(f"{file.read_text()}\n\n{block}" if name[2] else block)
    return f"from {name[1]} import *\n"


def names_of(code: str) -> set[str]:
    """The names of seqjax, and of its packages of plugins, that some code imports or reads from `sj`."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("seqjax"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("sj", "seqjax"):
            found.add(f"seqjax.{node.attr}")
    return found


@pytest.mark.parametrize(("document", "block"), blocks("python"))
def test_python_blocks_can_be_read_and_name_what_there_is(document, block):
    """The next test runs them, which takes long."""
    for module, _, name in (full.rpartition(".") for full in names_of(block)):
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
    if document == ROOT / "README.md":  # each block of it is copied alone
        names = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Name)]
        used = {node.id for node in names if isinstance(node.ctx, ast.Load)} - {*dir(builtins)}
        stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        assert used - stored <= {*re.findall(r"\w+", " ".join(re.findall(r"(?:import|def|class|as) (.*)", block)))}


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_python_blocks_run_in_order(document, folder, capsys, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    code = [as_import(block.values[1]) for block in blocks("python") if block.values[0] == document]
    small = "\n".join(code).replace("hidden=256", "hidden=8").replace("epochs=20", "epochs=1")
    # In a file, as the classes of plugins have to be found in their module.
    Path("document.py").write_text(small)
    spec = importlib.util.spec_from_file_location("document", "document.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "document", module)
    spec.loader.exec_module(module)


def test_commands_have_verbs_and_flags_that_there_are(folder):
    """The next test runs them, which takes long."""
    commands = [shlex.split(command)[1:] for command in console_commands() if command.startswith("seqjax ")]
    assert len(commands) > 30
    for verb, *args in commands:
        flags = [arg.partition("=")[0] for arg in args if arg.startswith("--")]
        if verb in ("run", "sweep"):  # which read all flags before they print their help
            done = call(verb, *args, "--help")
            assert done.returncode == 0 or "o such file" in done.stderr, (args, done.stderr)
        elif verb != "--version":
            help_ = call(verb, "--help").stdout
            assert [flag for flag in flags if not re.search(rf"{flag}\b", help_)] == [], (verb, args)


@pytest.mark.slow
@pytest.mark.parametrize("documents", ONE_AFTER_ANOTHER, ids=" ".join)
def test_commands_run_in_order(documents, folder, capsys, monkeypatch):
    commands = console_commands(documents)
    for n, command in enumerate(commands):
        if command.startswith((*NOT_RUN, "srun ", TOGETHER)):  # the next test runs some of these
            continue
        if "--target" in command:  # it needs a compiler; tests/accelerators runs it
            continue
        if command.startswith("seqjax check ") and command in commands[:n]:  # it takes long, and changes nothing
            continue
        program, *args = shlex.split(command)
        if program == "python":
            run_script(args, monkeypatch)
            continue
        assert program == "seqjax", command
        tiny = TINY if args[0] in ("run", "sweep") and "--help" not in args else {}
        assert main([*args, *(part for flag in tiny if flag not in args for part in (flag, tiny[flag]))]) == 0, command
        assert "Traceback" not in capsys.readouterr().err


def test_the_documents_with_commands_are_those_whose_commands_run():
    named = [name for documents in ONE_AFTER_ANOTHER for name in documents]
    assert sorted(named) == sorted({document.name for document, _ in (block.values for block in blocks("console"))})


def console_commands(documents: Sequence[str] | None = None) -> list[str]:
    """The commands of all documents, or of those with these names."""
    return [
        line.removeprefix("$ ").partition("  #")[0].strip()
        for document, block in (block.values for block in blocks("console"))
        if documents is None or document.name in documents
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


@pytest.mark.slow
def test_commands_of_several_processes_run_together(folder):
    """Each command in a terminal of its own, at a port that is free here, and with one device."""
    commands = [command for command in console_commands() if command.startswith(TOGETHER)]
    assert len(commands) == 2
    flags = " ".join(f"{flag} {value}" for flag, value in TINY.items())
    address = f"JAX_NUM_CPU_DEVICES=1 {TOGETHER.replace('12345', str(free_port()))}"
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    commands = [f"{command.replace(TOGETHER, address)} {flags}" for command in commands]
    started = [subprocess.Popen(command, shell=True, env=env) for command in commands]
    assert [process.wait(timeout=240) for process in started] == [0, 0]
    assert Run.open("runs/pair").finished


def run_script(args, monkeypatch):
    """A script of the checkout, run in the folder of the test."""
    monkeypatch.setattr(sys, "argv", args)
    ends = pytest.raises(SystemExit, match=r"^0$") if "--help" in args else contextlib.nullcontext()
    with ends:
        runpy.run_path(str(ROOT / args[0]), run_name="__main__")


def test_the_course_names_commands_of_experiments_as_their_docstrings_do():
    """They run at full size, so they are not run here; tests/test_experiments.py runs each script at a small one."""
    pages = sorted((ROOT / "docs" / "course").glob("*.md"))
    commands = [
        command for page in pages for command in re.findall(r"^python experiments/.*$", page.read_text("utf-8"), re.M)
    ]
    titles = [path.read_text("utf-8").partition("\n")[0] for path in (ROOT / "experiments").glob("*.py")]
    assert len(commands) > 10
    assert set(commands) <= {title.partition("   ")[2] for title in titles}


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading of CONTRIBUTING.md, without its head."""
    section = CONTRIBUTING.partition(f"\n## {heading}\n")[2]
    lines = re.search(r"(?:^\|.*\n)+", section, re.M)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_tree_has_every_file_with_one_purpose():
    printed = [line.split(maxsplit=1) for line in tree.lines()]
    files = {path.name for path in (ROOT / "seqjax").rglob("*.py")} - {"__init__.py"}
    assert files <= {name for name, *_ in printed}
    assert [name for name, *purpose in printed if not (purpose or name.endswith("/"))] == []


def test_the_table_of_layers_names_every_layer():
    named = re.findall(r"`(\w+)(?:/|\.py)`", " ".join(layer for layer, _ in table("Where to make a change")))
    assert sorted(named) == sorted(LAYERS)


def test_the_walk_names_functions_of_at_most_twelve_files():
    walk = table("The walk of an experiment")
    names = [file.strip("`") for _, file, _, _ in walk]
    assert len(set(names)) == len(names) <= 12
    for name, (_, _, functions, _) in zip(names, walk, strict=True):
        module = ast.parse((ROOT / "seqjax" / name).read_text("utf-8"))
        known = {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for node in (node for node in module.body if isinstance(node, ast.ClassDef)):
            known |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        assert {function.strip("`") for function in functions.split(", ")} <= known, name


def test_the_guide_of_the_command_line_names_every_plugin():
    guide = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    for kind in registry.GROUPS:
        (row,) = re.findall(rf"^\| {kind} \| .* \| (.*) \|$", guide, re.M)
        built_in = {entry.name for entry in registry.entries(kind) if entry.distribution == "seqjax"}
        assert set(re.findall("`(.*?)`", row)) == built_in


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
