r"""Control characters in every place where data can carry them: none may reach the terminal.

`PLACES` has a function for each place. It puts `EVIL` there, and calls a verb as a user would, in a process of its own.
Then nothing that was printed on stdout or stderr may be a control character, and `\x1b[8m` shows that the text was
printed at all.
"""

import contextlib
import fcntl
import functools
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from faults.changes import EVIL, sign
from faults.children import in_new_process, outcomes
from faults.lines import VERBS, flags_of
from faults.part import Part, control_character, part
from seqjax import Experiment, Report, Text, script, sweep
from seqjax.cli import main
from seqjax.models import RNN, NGram
from seqjax.report import Table
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import read_manifest, write_manifest
from seqjax.runs.files.rows import encode_rows, read_rows
from seqjax.samplers import Sequential
from seqjax.sweeps.index import IndexEntry, write_index

SHOWN = r"\x1b[8mZ"
"""What is printed in place of the beginning of `EVIL`."""
IS_SHOWN = re.compile(r"(x|u00)1b\[8mZ")
"""The same, in TOML and JSON too."""
TEXT = f"the quick {EVIL} brown fox jumps over the lazy dog.\n" * 20

PLUGINS = f'''
import logging, sys, warnings
from dataclasses import dataclass
import seqjax
EVIL = {EVIL!r}
print("printed", EVIL)
print("to stderr", EVIL, file=sys.stderr)
warnings.warn("warned " + EVIL)
logging.warning("logged " + EVIL)
@seqjax.register("tokenizer", "evil")
@dataclass(frozen=True)
class Evil(seqjax.Tokenizer):
    __doc__ = EVIL
    bibtex = EVIL
    name: str = EVIL
    """{EVIL}"""
    fault: str = "error"
    def split(self, text):
        raise {{"error": RuntimeError, "ctrl-c": KeyboardInterrupt}}[self.fault](EVIL)
''' + "".join(
    f'''
@seqjax.register("{kind}", "{name}")
@dataclass(frozen=True)
class {name.capitalize()}{kind.capitalize()}(seqjax.{kind.capitalize()}):
    """Fails."""
    name: str = ""
    split = lambda self, text: list(text)
    def {method}(self, *args):
        raise RuntimeError(EVIL)
'''
    for kind, name, method in (
        *(("tokenizer", "late", "join"), ("tracker", "evil", "open")),
        *(("launcher", "evil", "launch"), ("model", "evil", "init")),
    )
)


class Place(NamedTuple):
    """A place.

    Args:
        work: is called in a folder that has `text.txt`, a text of an evil name, and `mine.py` with plugins.
        words: are printed, too.
        is_slow: whether the quick part leaves it out.
        is_shown: whether it is known that `EVIL` is shown.
    """

    work: Callable[[], Any]
    words: tuple[str, ...] = ()
    is_slow: bool = False
    is_shown: bool = True


PLACES: dict[str, Place] = {}
"""What is evil -> the place."""


def case(*words: str, is_slow: bool = False) -> Callable[[Callable[[], None]], None]:
    """Adds a place; the name of the function says what is evil."""

    def add(work):
        PLACES[work.__name__.replace("_", " ")] = Place(work, words, is_slow)

    return add


def seqjax(*argv: object) -> None:
    """Calls `seqjax ARGV`. `RUN` stands for a copy of a run, and `RUNS` for one of a sweep."""
    copies = {word: copy(word) for word in argv if word in ("RUN", "RUNS")}
    main([str(copies.get(word, word)) for word in argv])


def copy(kind: str) -> Path:
    """A copy of a run or of a sweep, in a folder of an evil name."""
    path = Path(f"{kind} {EVIL}")
    return path if path.exists() else Path(shutil.copytree(Path("..", kind), path))


def ngram() -> Experiment:
    """An experiment of a count-based model."""
    return Experiment(dataset=Text(TEXT, f"{EVIL}.txt"), model=NGram(order=2), train=800, heldout=100)


VARIANTS = {"model.order": {f"{EVIL} 2": 2, f"{EVIL} 3": 3}}
SIZES = ("--train", 800, "--heldout", 100, "--model", "ngram", "--model.order", 2)
RUN_TEXT = ("run", "--dataset", "text-file", "--dataset.path")
NGRAM = (*RUN_TEXT, "text.txt", *SIZES)
OUT = ("--out", f"out {EVIL}")
MINE = ("--load", "mine.py")
LINES: dict[str, tuple] = {
    "unknown verb": (EVIL,),
    "unknown flag": ("run", f"--{EVIL}"),
    "flag of a field": ("run", f"--model.{EVIL}", "3"),
    "value of a field": ("run", "--model.hidden", EVIL),
    "seeds": ("run", "--seeds", EVIL),
    "printed config": (*RUN_TEXT, f"{EVIL}.txt", "--print-config"),
    "path without a dataset": ("run", "--dataset.path", f"{EVIL}.txt"),
    "name that is not UTF-8": ("status", os.fsdecode(b"\x9b\x1b[8mZ")),
    "docstring of a plugin": ("list", "tokenizer", "evil", *MINE),
    "tokenizer that cannot decode": (*NGRAM, *MINE, "--tokenizer", "late"),
    "model that raises": (*NGRAM, *MINE, "--model", "evil"),
    "launcher that raises": (*NGRAM, *MINE, "--launcher", "evil", "--seeds", "0,1", *OUT),
    "names of variants": ("sweep", *RUN_TEXT[1:], "text.txt", f"{EVIL}.txt", *SIZES, "--launcher", "none", *OUT),
    "comparison of folders": ("compare", "RUN", "RUN"),
    "generated text": ("generate", "RUN", "--prompt", EVIL, "--length", 100, "--temperature", 1),
    "folder of a new plugin": ("new", "model", "my-cell", "--out", EVIL),
    "name of a new plugin": ("new", "model", EVIL),
    "check of a plugin": ("check", "tokenizer", "evil", *MINE),
    "dry run": (*RUN_TEXT, f"{EVIL}.txt", *SIZES, "--dry-run"),
    "text file": (*RUN_TEXT, f"{EVIL}.txt", *SIZES, *OUT),
    "figure": ("compare", "RUNS", "--figure", f"{EVIL}.png"),
    **{f"argument of {verb}": (verb, EVIL) for verb in ("list", "status", "compare", "verify", "evaluate")},
}
"""What is evil -> a command line."""
SLOW_LINES = ("check of a plugin", "dry run", "text file", "figure")
CSV = ("run", "--dataset", "csv", "--dataset.path", "a.csv")
LIST = ("list", "--load", f"{EVIL}.py")
FILES: dict[str, tuple[str, str, tuple]] = {
    "plugin that raises": (f"{EVIL}.py", f"raise RuntimeError({EVIL!r})", LIST),
    "plugin that leaves": (f"{EVIL}.py", f"raise SystemExit({EVIL!r})", LIST),
    "plugin that is not Python": (f"{EVIL}.py", f'a = "{EVIL}', LIST),
    "name of a registered plugin": (f"{EVIL}.py", f"import seqjax\nseqjax.register('model', {EVIL!r})", LIST),
    "column of a CSV file": ("a.csv", f'"{EVIL}",b\n1,2\n', (*CSV, "--dataset.targets", "c")),
    "cell of a CSV file": ("a.csv", f'a,b\n1,"{EVIL}"\n', CSV),
    "other file in the folder": (f"out/{EVIL}", "", (*NGRAM, "--out", "out")),
}
"""What is evil -> a file, its content, and a command line."""


def _with_file(name, content, words):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(content)
    seqjax(*words)


def _flag(verb, flag):
    """An evil value of a flag, of which not all are printed."""
    arguments = {"run": [*NGRAM[1:], "--dry-run"], "list": ["model"], "check": ["model", "rnn"]}
    arguments |= {"sweep": arguments["run"], "new": ["model", "mine"]}
    seqjax(verb, *arguments.get(verb, ["RUN"]), flag, EVIL)


for name, words in LINES.items():
    PLACES[name] = Place(functools.partial(seqjax, *words), is_slow=name in SLOW_LINES)
for name, entry in FILES.items():
    PLACES[name] = Place(functools.partial(_with_file, *entry))
for verb in VERBS:
    for flag in flags_of(verb):
        PLACES[f"{flag} of {verb}"] = Place(functools.partial(_flag, verb, flag), is_slow=True, is_shown=False)


@case("printed", "to stderr", "warned", "logged")
def list_of_plugins():
    seqjax("list", "tokenizer", "--verbose", *MINE)


@case("Traceback")
def traceback():
    seqjax(*NGRAM, *MINE, "--tokenizer", "evil", "--debug")


@case("next ")
def interruption():
    Path(f"out {EVIL}").mkdir()
    seqjax(*NGRAM, *MINE, "--tokenizer", "evil:fault=ctrl-c", *OUT)


@case("sends the rest")
def tracker_in_training():
    seqjax(*NGRAM, *MINE, "--tracker", f"evil:name={EVIL}", *OUT)


@case()
def slurm():
    """sbatch and squeue print it, and the id of a job has it."""
    for name, code in (("sbatch", 0), ("squeue", 1)):
        Path(name).write_text(f"#!/bin/sh\nprintf '%s' '{EVIL}'\nprintf '%s' '{EVIL}' >&2\nexit {code}\n")
        Path(name).chmod(0o755)
    with mock.patch.dict(os.environ, PATH=f"{Path.cwd()}:{os.environ['PATH']}"):
        seqjax("sweep", *NGRAM[1:], "--launcher", "slurm", "--out", "out", "--seeds", "0,1")
        seqjax("status", "out")


@case("diverged")
def reason_of_a_divergence():
    run = copy("RUN")
    write_manifest(run, read_manifest(run)._replace(ended="diverged", note=EVIL))
    seqjax("status", run)


@case("not the name of a folder", "it has no run")
def index_of_a_sweep():
    Path("out").mkdir()
    for index in ({"a": IndexEntry("a", 0, EVIL)}, {EVIL: IndexEntry(EVIL, 0, "a")}):
        write_index(Path("out"), index)
        seqjax("compare", "out")


@case("unknown metric")
def metric():
    run = copy("RUN")
    rows = [row | {f"train_{EVIL}": 1.0} for row in read_rows(run)]
    (run / folder.METRICS).write_bytes(encode_rows(rows))
    sign(run)
    seqjax("compare", run, "--metric", "x")


@case(is_slow=True)
def metric_in_training():
    evil = lambda output, target: 0.0 * output[0]
    evil.__name__ = EVIL
    fields = {"model": RNN(hidden=3), "sampler": Sequential(2, 8), "train": 800, "heldout": 100, "epochs": 1}
    Experiment(dataset=Text(TEXT, f"{EVIL}.txt"), **fields, metrics=(evil,)).run(progress=True)


@case("in use by")
def owner_of_a_lock():
    Path("out").mkdir()
    with Path("out", folder.LOCK).open("w") as file:
        file.write(EVIL)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        seqjax(*NGRAM, "--out", "out")


@case("usage")
def printed_report():
    def report() -> Report:
        found = Report(title=EVIL, text=EVIL)
        found.row(EVIL, EVIL, EVIL)
        found.table("table", Table([EVIL], [[EVIL]]))
        return found

    for flags in (OUT, ["--help"]):
        with mock.patch.object(sys, "argv", [f"{EVIL}.py", *flags]), contextlib.suppress(SystemExit):
            script(report)


@case("opened")
def progress_in_a_script():
    """Modules that scripts use print by themselves, where no stream is escaped."""
    for _ in range(2):
        ngram().run(f"run {EVIL}", progress=True)
    sweep(ngram(), VARIANTS, f"runs {EVIL}", progress=True)


@case("Traceback")
def error_in_a_script():
    subprocess.run(
        [sys.executable, "-c", f"from seqjax.errors import Error; raise Error({EVIL!r}, problems=[{EVIL!r}])"]
    )


@case(*(f"{word} {SHOWN}" for word in ("line", "live", "library", "table")), is_slow=True)
def live_line_of_a_terminal():
    """On a terminal: what rich prints to move the cursor is taken out, and nothing else may be left."""
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE],
        env=os.environ | {"TERM": "xterm", "COLUMNS": "400"},
        stdin=other_end,
        stdout=other_end,
        stderr=2,
    )
    os.close(other_end)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal on Linux
        while found := os.read(terminal, 4096):
            shown += found
    assert process.wait() == 0
    assert b"\x1b[?25l" in shown, "no live line"
    os.write(1, re.sub(rb"\x1b\[(?:\?25[lh]|[12]?[KA])|\r", b"", shown))


LIVE = f"""
import sys
from seqjax.cli.command import guarded
from seqjax.report.table import Table
from seqjax.terminal.live import open_output
from seqjax.terminal.show import show
EVIL = {EVIL!r}
def work(argv):
    console, live = open_output("live " + EVIL, show=True)
    live.start(refresh=True)
    console.print("line " + EVIL)
    live.update("live [bold]" + EVIL, refresh=True)
    for stream in (sys.stdout, sys.stderr):
        print("library", EVIL, file=stream)
    live.stop()
    show(Table([EVIL], [["table " + EVIL]]))
    return 0
guarded(work, [])
"""


def parts(quick: bool) -> Iterator[Part]:
    """One row: the places from which no control character is printed."""
    names = [name for name, place in PLACES.items() if not (quick and place.is_slow)]
    yield part("control characters in data: none printed", in_new_process(problems, names))


def problems(names: list[str], plant: Callable[[str], Any] = lambda name: None) -> list[str | None]:
    """What is wrong with places; None if nothing is.

    Args:
        names: their names.
        plant: is called with the name of each place, in its process: it plants a fault.
    """
    with tempfile.TemporaryDirectory() as root:
        makes = {
            "RUN": lambda: ngram().run("RUN"),
            "RUNS": lambda: sweep(ngram(), {**VARIANTS, "seed": [0, 1]}, "RUNS"),
        }
        for _, outcome in outcomes((name, Path(root), lambda make=make: make() and 0) for name, make in makes.items()):
            assert outcome.code == 0, outcome
        works = ((name, _folder(Path(root)), lambda name=name: _carry_out(name, plant)) for name in names)
        return [_problem(name, PLACES[name], outcome) for name, outcome in outcomes(works)]


def _folder(root):
    """A new folder for a place."""
    path = root / f"{len([*root.iterdir()])}"
    path.mkdir()
    for name, content in {"text.txt": TEXT, f"{EVIL}.txt": TEXT, "mine.py": PLUGINS}.items():
        (path / name).write_text(content)
    return path


def _carry_out(name, plant):
    plant(name)
    try:
        PLACES[name].work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    return 0


def _problem(name, place, outcome):
    printed = outcome.out + outcome.err
    if raw := control_character(printed):
        return f"{name}: printed {raw}"
    if missing := [word for word in place.words if word not in printed]:
        return f"{name}: {missing} are not printed in {printed!r:.2000}"
    return None if IS_SHOWN.search(printed) or not place.is_shown else f"{name}: it is not shown in {printed!r:.2000}"
