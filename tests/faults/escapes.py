r"""Control characters in every place where data can carry them: none may reach the terminal.

`PLACES` has a function for each place. It puts `EVIL` there, and calls a verb as a user would. Then nothing that was
printed on stdout or stderr may be a control character, and `\x1b[8m` shows that the text was printed at all.
"""

import contextlib
import fcntl
import json
import logging
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import jax
from seqjax.runs.adopt import adopt

from faults.part import Part, part
from seqjax import Experiment, Report, Text, create, script, sweep
from seqjax.cli import main
from seqjax.plugin import registry
from seqjax.report import Table, exactly
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import add_files, remove_results
from seqjax.runs.files.rows import read_rows, write_rows
from seqjax_models import RNN, NGram
from seqjax_samplers import Sequential

EVIL = "\x1b[8mZ\x1b]0;Z\x07\x9b8mZ\x7f\u202eZ\u2066Z\u2028Z"
"""Hides what follows, sets the title of the window, begins a C1 sequence, deletes, reorders, ends the line."""
SHOWN = r"\x1b[8mZ"
"""What is printed in place of its beginning."""
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


@seqjax.register("tokenizer", "late")
@dataclass(frozen=True)
class Late(seqjax.Tokenizer):
    """Cannot decode."""

    def split(self, text):
        return list(text)

    def join(self, tokens):
        raise RuntimeError(EVIL)


@seqjax.register("tracker", "evil")
@dataclass(frozen=True)
class Tracker(seqjax.Tracker):
    """Fails."""
    name: str = ""

    def open(self, run, config, epochs):
        raise RuntimeError(EVIL)


@seqjax.register("launcher", "evil")
@dataclass(frozen=True)
class Launcher(seqjax.Launcher):
    """Fails."""

    def launch(self, jobs, show_progress):
        raise RuntimeError(EVIL)


@seqjax.register("launcher", "echo")
@dataclass(frozen=True)
class Echo(seqjax.Launcher):
    """Each job fails, with a message in its log."""

    def launch(self, jobs, show_progress):
        for job in jobs:
            job.log.write_text("seqjax: " + EVIL)
            job.code.write_text("2")
        return {{}}


@seqjax.register("model", "evil")
@dataclass(frozen=True)
class Model(seqjax.Model):
    """Fails."""

    def init(self, key, spec):
        raise RuntimeError(EVIL)
'''

EXPERIMENT_SCRIPT = '''"""{title}   python {name}

{text}
"""
import sys
from pathlib import Path
from unittest import mock
out = Path(sys.argv[sys.argv.index("--out") + 1])
{code}
'''


class Place:
    """A folder for one case, what was printed there, and runs that cases share.

    Args:
        path: the folder, which is the working folder during the case.
        shared: the folder of the shared runs.
    """

    def __init__(self, path: Path, shared: Path):
        self.path, self.shared, self.printed = path, shared, ""

    def seqjax(self, *argv: object) -> None:
        """Calls `seqjax ARGV`; what nothing catches is printed as Python prints it."""
        self.call(main, [str(arg) for arg in argv])

    def call(self, work: Callable, *arguments: object) -> None:
        """Calls a function, and keeps what reaches the file descriptors of stdout and stderr."""
        with tempfile.TemporaryFile() as file:
            with _standard_files(file.fileno()):
                try:
                    work(*arguments)
                except SystemExit as leaving:
                    if isinstance(leaving.code, str):
                        print(leaving.code, file=sys.stderr)
                except BaseException:
                    sys.excepthook(*sys.exc_info())
            file.seek(0)
            self.printed += file.read().decode("utf-8", "surrogateescape")

    def python(self, code: str) -> None:
        """Runs Python code in a process of its own."""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
        self.printed += (done.stdout + done.stderr).decode("utf-8", "surrogateescape")

    def file(self, name: str, content: str | bytes = TEXT) -> Path:
        """Writes a file."""
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return Path(name)

    def plugins(self) -> list[object]:
        """The flags that load the plugins above. What loading prints is looked at as well."""
        return ["--load", self.file("mine.py", PLUGINS)]

    def run(self) -> Path:
        """A copy of a run of an n-gram model, in a folder of an evil name."""
        return self._copy("run", lambda path: _ngram().run(path))

    def trained(self) -> Path:
        """A copy of a run of a trained model."""
        return self._copy("trained", lambda path: _rnn().run(path))

    def runs(self) -> Path:
        """A copy of a sweep of two variants with evil names and two seeds."""
        values = {f"{EVIL} 2": 2, f"{EVIL} 3": 3}
        return self._copy("runs", lambda path: sweep(_ngram(), {"model.order": values, "seed": [0, 1]}, path))

    def _copy(self, name, make):
        path = self.shared / name
        if not path.exists():
            make(path)
        return Path(shutil.copytree(path, f"{name} {EVIL}"))


def _ngram():
    return Experiment(dataset=Text(TEXT, f"{EVIL}.txt"), model=NGram(order=2), train=800, heldout=100)


def _rnn(**fields):
    parts = {"model": RNN(hidden=3), "sampler": Sequential(2, 8)}
    return Experiment(dataset=Text(TEXT, f"{EVIL}.txt"), **parts, epochs=1, train=800, heldout=100, **fields)


PLACES: dict[str, Callable[[Place], None]] = {}
"""What is evil -> a function that puts it there and calls a verb."""
SLOW: list[str] = []
"""The places that need a trained model, a library that is imported slowly, or a process of their own."""


def case(work: Callable[[Place], None]) -> Callable[[Place], None]:
    """Adds a place; the name of the function says what is evil."""
    PLACES[work.__name__.replace("_", " ")] = work
    return work


def slow(work: Callable[[Place], None]) -> Callable[[Place], None]:
    """Adds a place that the quick part leaves out."""
    SLOW.append(work.__name__.replace("_", " "))
    return case(work)


# The command line.


@case
def unknown_verb(place):
    place.seqjax(EVIL)


@case
def unknown_flag(place):
    place.seqjax("run", f"--{EVIL}")


@case
def value_that_is_no_number(place):
    place.seqjax("run", "--epochs", EVIL)


@case
def value_that_argparse_refuses(place):
    place.seqjax("generate", "x", "--length", EVIL)


@case
def name_of_a_plugin(place):
    place.seqjax("run", "--model", EVIL)


@case
def flag_of_a_field(place):
    place.seqjax("run", f"--model.{EVIL}", "3")


@case
def value_of_a_field(place):
    place.seqjax("run", "--model.hidden", EVIL)


@case
def seeds(place):
    place.seqjax("run", "--seeds", EVIL)


@case
def kind_of_a_plugin(place):
    place.seqjax("list", EVIL)


# Configs.


def config(place, text):
    place.seqjax("run", "--config", place.file("config.toml", text))


@case
def unknown_key_of_a_config(place):
    config(place, '"\\u001b[8mZ\\u009b\\u202e" = 1')


@case
def unknown_field_in_a_config(place):
    config(place, '[model]\nplugin = "rnn"\n"\\u001b[8mZ\\u009b\\u202e" = 1')


@case
def value_in_a_config(place):
    config(place, 'epochs = "\\u001b[8mZ\\u009b\\u202e"')


@case
def plugin_in_a_config(place):
    config(place, '[model]\nplugin = "\\u001b[8mZ\\u009b\\u202e"')


@case
def table_in_a_config(place):
    config(place, '["\\u001b[8mZ\\u009b\\u202e"]\na = 1')


@case
def config_that_is_not_toml(place):
    config(place, f"{EVIL} = ")
    place.printed += SHOWN  # tomllib says where it is, and does not repeat it


@case
def name_of_a_config(place):
    place.seqjax("run", "--config", f"{EVIL}.toml")


@case
def printed_config(place):
    place.file(f"{EVIL}.txt")
    place.seqjax("run", "--dataset", "text-file", "--dataset.path", f"{EVIL}.txt", "--print-config")


# Datasets.


@slow
def text_file(place):
    place.file(f"{EVIL}.txt")
    flags = ["--dataset", "text-file", "--dataset.path", f"{EVIL}.txt", "--train", 800, "--heldout", 100]
    place.seqjax("run", *flags, "--model", "ngram", "--model.order", 2, "--dry-run")
    assert SHOWN in place.printed
    place.seqjax("run", *flags, "--model", "ngram", "--model.order", 2, "--out", f"out {EVIL}")
    place.seqjax("run", *flags, "--model", "ngram", "--model.order", 2, "--out", f"out {EVIL}")


@case
def missing_text_file(place):
    place.seqjax("run", "--dataset", "text-file", "--dataset.path", f"{EVIL}.txt")


@case
def text_file_that_is_not_utf_8(place):
    place.file(f"{EVIL}.txt", b"\x9b")
    place.seqjax("run", "--dataset", "text-file", "--dataset.path", f"{EVIL}.txt")


@case
def file_in_place_of_a_dataset(place):
    place.file(f"{EVIL}.txt")
    place.seqjax("run", "--dataset", f"{EVIL}.txt")


@case
def path_without_a_dataset(place):
    place.seqjax("run", "--dataset.path", f"{EVIL}.txt")


@case
def name_that_is_not_utf_8(place):
    name = os.fsdecode(b"\x9b\x1b[8mZ")
    Path(name).mkdir()
    place.seqjax("status", name)


@case
def column_of_a_csv_file(place):
    place.file("a.csv", f'"{EVIL}",b\n1,2\n')
    place.seqjax("run", "--dataset", "csv", "--dataset.path", "a.csv", "--dataset.targets", "c")


@case
def cell_of_a_csv_file(place):
    place.file("a.csv", f'a,b\n1,"{EVIL}"\n')
    place.seqjax("run", "--dataset", "csv", "--dataset.path", "a.csv")


@case
def array_of_an_npz_file(place):
    import numpy as np

    np.savez("a.npz", **{f"Z{EVIL}": np.zeros(3)})
    place.seqjax("run", "--dataset", "npz", "--dataset.path", "a.npz")


@slow
def hugging_face_folder(place):
    Path(f"{EVIL}").mkdir()
    place.seqjax("run", "--dataset", "hf-dataset", "--dataset.path", EVIL)


# Plugins.


@case
def missing_plugin_file(place):
    place.seqjax("list", "--load", f"{EVIL}.py")


@case
def plugin_that_raises(place, error="RuntimeError"):
    place.file(f"{EVIL}.py", f"raise {error}({EVIL!r})")
    place.seqjax("list", "--load", f"{EVIL}.py")


@case
def plugin_that_raises_an_error(place):
    plugin_that_raises(place, "__import__('seqjax').Error")


@case
def plugin_that_leaves(place):
    plugin_that_raises(place, "SystemExit")


@case
def plugin_that_is_not_python(place):
    place.file(f"{EVIL}.py", f'a = "{EVIL}')
    place.seqjax("list", "--load", f"{EVIL}.py")


@case
def plugin_of_a_name(place):
    place.file("a.py", f"import seqjax\nseqjax.register('model', {EVIL!r})")
    place.seqjax("list", "--load", "a.py")


@case
def list_of_plugins(place):
    place.seqjax("list", "tokenizer", "--verbose", *place.plugins())
    assert all(word in place.printed for word in ("printed", "to stderr", "warned", "logged"))


@case
def docstring_of_a_plugin(place):
    place.seqjax("show", "tokenizer", "evil", *place.plugins())


@slow
def check_of_a_plugin(place):
    place.seqjax("check", "tokenizer", "evil", *place.plugins())


def tokenizer_that_raises(place, *flags):
    place.file("text.txt")
    run = ["run", "--dataset", "text-file", "--dataset.path", "text.txt", "--train", 800, "--heldout", 100]
    place.seqjax(*run, "--model", "ngram", "--model.order", 2, *place.plugins(), *flags)


@case
def tokenizer(place):
    tokenizer_that_raises(place, "--tokenizer", "evil")


@case
def traceback(place):
    tokenizer_that_raises(place, "--tokenizer", "evil", "--debug")
    assert "Traceback" in place.printed


@case
def interruption(place):
    Path(f"out {EVIL}").mkdir()
    tokenizer_that_raises(place, "--tokenizer", "evil:fault=ctrl-c", "--out", f"out {EVIL}")
    assert "next " in place.printed


@case
def tokenizer_that_cannot_decode(place):
    tokenizer_that_raises(place, "--tokenizer", "late")


@case
def model_that_raises(place):
    tokenizer_that_raises(place, "--model", "evil")


@case
def tracker_in_training(place):
    tokenizer_that_raises(place, "--tracker", f"evil:name={EVIL}", "--out", f"out {EVIL}")
    assert "seqjax track" in place.printed


@case
def tracker_of_a_run(place):
    place.seqjax("track", place.run(), "--to", f"evil:name={EVIL}", *place.plugins())


@case
def account_of_a_tracker(place):
    run = place.run()
    (run / "tracking").mkdir()
    (run / "tracking" / "tracked.json").write_text(json.dumps({EVIL: {"epochs": EVIL}}))
    place.seqjax("track", run, "--to", "evil", *place.plugins())


@case
def launcher_that_raises(place):
    tokenizer_that_raises(place, "--launcher", "evil", "--seeds", "0,1", "--out", f"out {EVIL}")


@case
def job_that_fails(place):
    tokenizer_that_raises(place, "--launcher", "echo", "--seeds", "0,1", "--out", f"out {EVIL}")
    place.printed = place.printed.partition("sweep ")[2]
    place.seqjax("status", f"out {EVIL}")


@case
def slurm(place):
    """sbatch and squeue print it, and the id of a job has it."""
    place.file("text.txt")
    for name, code in (("sbatch", 0), ("squeue", 1)):
        place.file(name, f"#!/bin/sh\nprintf '%s' '{EVIL}'\nprintf '%s' '{EVIL}' >&2\nexit {code}\n").chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{place.path}:{before}"
    try:
        flags = ["--dataset", "text-file", "--dataset.path", "text.txt", "--train", 800, "--heldout", 100]
        flags += ["--model", "ngram", "--model.order", 2, "--launcher", "slurm", "--out", "out"]
        place.seqjax("sweep", *flags, "--seeds", "0,1")
        place.seqjax("status", "out")
    finally:
        os.environ["PATH"] = before


# Folders of runs and of sweeps.


@case
def names_of_variants(place):
    for name in ("a", EVIL):
        place.file(f"{name}.txt")
    flags = ["--train", 800, "--heldout", 100, "--model", "ngram", "--model.order", 2, "--launcher", "none"]
    paths = ["--dataset.path", "a.txt", f"{EVIL}.txt"]
    place.seqjax("sweep", "--dataset", "text-file", *paths, *flags, "--out", f"out {EVIL}")


@slow
def comparison(place):
    place.seqjax("compare", place.runs(), "--page", f"{EVIL}.html", "--figure", f"{EVIL}.png")


@case
def unknown_metric(place):
    place.seqjax("compare", place.runs(), "--metric", EVIL)


@case
def unknown_variant(place):
    place.seqjax("compare", place.runs(), "--against", "x")


@case
def format_of_a_figure(place):
    place.seqjax("compare", place.runs(), "--figure", f"x.{EVIL}")


@case
def comparison_of_folders(place):
    run = place.run()
    place.seqjax("compare", run, run)


@case
def comparison_of_single_runs(place):
    for n in range(2):
        dataset = create("dataset", "text-file", path=str(place.file(f"{EVIL}{n}.txt")))
        Experiment(dataset=dataset, model=NGram(order=2), train=800, heldout=100).run(f"{EVIL} {n}")
    place.seqjax("compare", f"{EVIL} 0", f"{EVIL} 1")


@case
def state_of_a_sweep(place):
    place.seqjax("status", place.runs())


@case
def state_of_a_run(place):
    place.seqjax("status", place.run())


@case
def reason_of_a_divergence(place):
    run = place.run()
    (run / folder.DIVERGED).write_text(EVIL)
    place.seqjax("status", run)


@case
def folder_in_the_index_of_a_sweep(place):
    index(place, {"a": {"variant": "a", "folder": EVIL}})


@case
def run_in_the_index_of_a_sweep(place):
    index(place, {EVIL: {"variant": EVIL, "folder": "a"}})


def index(place, record):
    Path("out").mkdir()
    place.file("out/sweep.json", json.dumps(record))
    place.seqjax("compare", "out")


def environment_of_a_run(place, change):
    run = next((place.runs()).glob("*/environment.json"))
    record = json.loads(run.read_text())
    change(record)
    run.write_text(json.dumps(record))
    add_files(run.parent, run.name)
    return run.parent


@case
def version_in_the_environment(place):
    run = environment_of_a_run(place, lambda record: record["versions"].update(jax=EVIL))
    place.seqjax("compare", run.parent)


@case
def plugin_in_the_environment(place):
    evil = {"kind": EVIL, "id": f"local/{EVIL}", "file": None, "sha256": None}
    run = environment_of_a_run(place, lambda record: record["plugins"].append(evil))
    place.seqjax("evaluate", run)


@case
def device_in_the_environment(place):
    environment_of_a_run(place, lambda record: record.update(device=EVIL, backend=EVIL))
    place.seqjax("compare", f"runs {EVIL}", "--page", f"{EVIL}.html")


@case
def codec(place):
    run = place.run()
    (run / folder.CODEC).write_text(json.dumps({EVIL: 1}))
    place.seqjax("evaluate", run)


@case
def manifest(place):
    run = place.run()
    record = json.loads((run / folder.MANIFEST).read_text())
    (run / folder.MANIFEST).write_text(json.dumps({**record, "files": {EVIL: EVIL}}))
    place.seqjax("evaluate", run)


@case
def metric(place):
    run = place.run()
    rows = read_rows(run)
    write_rows(run, [row | {f"train_{EVIL}": 1.0} for row in rows])
    adopt(run)
    place.printed = ""
    place.seqjax("compare", run, "--metric", "x")


@slow
def metric_in_training(place):
    evil = lambda output, target: 0.0 * output[0]
    evil.__name__ = EVIL
    place.call(lambda: _rnn(metrics=(evil,)).run(progress=True))


@case
def torn_metrics(place):
    run = place.run()
    remove_results(run, (run / folder.CONFIG).read_bytes())  # otherwise the manifest tells that a line was added
    with (run / folder.METRICS).open("ab") as file:
        file.write(b"{")
    place.seqjax("track", run, "--to", "evil", *place.plugins())
    assert "incomplete" in place.printed


@case
def owner_of_a_lock(place):
    Path("out").mkdir()
    with Path("out", folder.LOCK).open("w") as file:
        file.write(EVIL)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        flags = ["--dataset", "text-file", "--dataset.path", place.file("text.txt"), "--train", 800]
        place.seqjax("run", *flags, "--model", "ngram", "--model.order", 2, "--out", "out")


@case
def other_files_in_the_folder(place):
    Path("out").mkdir()
    place.file(f"out/{EVIL}")
    flags = ["--dataset", "text-file", "--dataset.path", place.file("text.txt"), "--train", 800]
    place.seqjax("run", *flags, "--model", "ngram", "--model.order", 2, "--out", "out")


@case
def files_changed_by_hand(place):
    run = place.run()
    (run / folder.SAMPLES).write_text(EVIL)
    place.seqjax("evaluate", run)
    place.seqjax("adopt", run)
    place.seqjax("adopt", run)


@case
def folder_to_start_from(place):
    place.seqjax("run", "--init-from", EVIL)


@slow
def missing_folder(place):
    for verb in ("adopt", "compare", "evaluate", "generate", "lags", "measure", "status"):
        place.seqjax(verb, EVIL)
    place.seqjax("track", EVIL, "--to", "tensorboard")


# Texts.


@case
def generated_text(place):
    place.seqjax("generate", place.run(), "--prompt", EVIL, "--length", 100, "--temperature", 1)


@case
def unknown_character_in_a_prompt(place):
    place.seqjax("generate", place.run(), "--prompt", "\x1c", EVIL.replace("Z", "\x1d"))
    place.printed += SHOWN if r"\x1c" in place.printed else ""


@case
def file_to_evaluate(place):
    run = place.run()
    place.seqjax("evaluate", run, "--text", place.file(f"{EVIL}.txt"))
    place.seqjax("evaluate", run, "--text", f"missing {EVIL}.txt")


# Diagnostics.


@slow
def measured_strategies(place):
    flags = ["--draws", 3, "--windows", 1, "--out", f"out {EVIL}"]
    with mock.patch("seqjax.cli.measure.FIGURES", ()):  # drawing them takes seconds
        place.seqjax("measure", place.trained(), *flags)


@case
def unknown_strategies(place):
    place.seqjax("measure", "x", "--gradient", EVIL, f"truncated:steps={EVIL}")


@slow
def figure_of_lags(place):
    place.seqjax("lags", place.trained(), "--max-lag", 2, "--rows", 1)


# New plugins, scripts, reports.


@case
def folder_of_a_new_plugin(place):
    place.seqjax("new", "model", "my-cell", "--out", EVIL)
    place.seqjax("new", "model", "my-cell", "--package", "--out", EVIL)


@case
def name_of_a_new_plugin(place):
    place.seqjax("new", "model", EVIL)


@case
def scripts_of_a_folder(place):
    Path(EVIL).mkdir()
    report = f'(out / "report.md").write_text("# x " + {EVIL!r})'
    for name, code in ((f"a{EVIL}", report), (f"b{EVIL}", f"sys.exit('x ' + {EVIL!r})"), ("c", "")):
        words = {"title": f"Is it {EVIL}?", "text": EVIL, "name": "a.py", "code": code}
        text = EXPERIMENT_SCRIPT.format(**words).replace("\x07", "")
        place.file(f"{EVIL}/{name}.py", text)
    outputs = ["--page", f"{EVIL}.html", "--markdown", f"{EVIL}.md", "--table", f"table {EVIL}.md"]
    place.seqjax("reproduce", EVIL, "--out", f"out {EVIL}", *outputs, "--title", EVIL)
    assert "saved" in place.printed


@case
def unknown_script(place):
    Path(EVIL).mkdir()
    place.file(f"{EVIL}/{EVIL}.py")
    place.seqjax("reproduce", EVIL, "--only", f"x{EVIL}")


def evil_report() -> Report:
    """A report whose names and texts are evil."""
    report = Report(title=EVIL, text=EVIL)
    report.row(EVIL, EVIL, exactly(EVIL))
    report.table("table", Table([EVIL], [[EVIL]]))
    return report


@case
def printed_report(place):
    before, sys.argv = sys.argv, [f"{EVIL}.py", "--out", f"out {EVIL}"]
    try:
        place.call(script, evil_report)
        sys.argv = [f"{EVIL}.py", "--help"]
        place.call(script, evil_report)
    finally:
        sys.argv = before


# Without the command.


@case
def progress_in_a_script(place):
    """Modules that scripts use print by themselves, where no stream is escaped."""
    place.call(lambda: _ngram().run(f"run {EVIL}", progress=True))
    place.call(lambda: _ngram().run(f"run {EVIL}", progress=True))
    values = {f"{EVIL} 2": 2, f"{EVIL} 3": 3}
    place.call(lambda: sweep(_ngram(), {"model.order": values}, f"runs {EVIL}", progress=True))


@case
def error_in_a_script(place):
    place.python(f"from seqjax.errors import Error; raise Error({EVIL!r}, problems=[{EVIL!r}])")
    assert "Traceback" in place.printed


@slow
def live_line_of_a_terminal(place):
    """On a terminal: what rich prints to move the cursor is taken out, and nothing else may be left."""
    place.file("show.py", LIVE)
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "show.py"], env=os.environ | {"TERM": "xterm"}, stdin=other_end, stdout=other_end, stderr=2
    )
    os.close(other_end)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal on Linux
        while found := os.read(terminal, 4096):
            shown += found
    os.close(terminal)
    assert process.wait() == 0
    assert b"\x1b[?25l" in shown, "no live line"
    printed = re.sub(r"\x1b\[(?:\?25[lh]|[12]?[KA])|\r", "", shown.decode("utf-8", "surrogateescape"))
    assert all(f"{word} {SHOWN}" in printed for word in ("line", "live", "library", "board"))
    place.printed += printed


LIVE = f"""
import sys
from pathlib import Path
from unittest import mock
from seqjax.cli.command import guarded
from seqjax.report.board import Board
from seqjax.terminal.live import open_output
EVIL = {EVIL!r}

def work(argv):
    console, live = open_output("live " + EVIL, show=True)
    live.start(refresh=True)
    console.print("line " + EVIL)
    live.update("live [bold]" + EVIL, refresh=True)
    print("library", EVIL)
    print("library", EVIL, file=sys.stderr)
    live.stop()
    with Board(1) as board:
        board.start(Path("board " + EVIL), Path("log"))
        board.live.refresh()
    return 0

guarded(work, [])
"""


def parts(quick: bool) -> Iterator[Part]:
    """One row: the places from which no control character is printed."""
    names = [name for name in PLACES if not (quick and name in SLOW)]
    with tempfile.TemporaryDirectory() as root, _quick_compiling():
        yield part("control characters in data: none printed", [problem(name, Path(root)) for name in names])


def problem(name: str, root: Path) -> str | None:
    """What is wrong with a place; None if nothing is."""
    before, path = Path.cwd(), root / f"{list(PLACES).index(name)}"
    path.mkdir()
    os.chdir(path)
    place = Place(path, root)
    try:
        PLACES[name](place)
    except Exception as fault:
        return f"{name}: {fault!r} after {place.printed!r:.2000}"
    finally:
        os.chdir(before)
        for key, (entry, _) in list(registry._registered.items()):
            if entry.distribution == registry.LOCAL:
                del registry._registered[key]
    raw = [n for n, character in enumerate(place.printed) if not (character.isprintable() or character in "\n\t")]
    if raw:
        return f"{name}: printed {place.printed[max(0, raw[0] - 60) : raw[0] + 60]!r}"
    return None if IS_SHOWN.search(place.printed) else f"{name}: it is not shown in {place.printed!r:.2000}"


@contextlib.contextmanager
def _quick_compiling() -> Iterator[None]:
    """Programs are hardly optimized, and are forgotten at the end: their last bits do not matter here alone."""
    before = jax.config.read("jax_disable_most_optimizations")
    try:
        jax.config.update("jax_disable_most_optimizations", True)
        jax.clear_caches()
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
        jax.clear_caches()


@contextlib.contextmanager
def _standard_files(target: int) -> Iterator[None]:
    """stdout and stderr as of a new process, whose file descriptors are copies of this one."""
    kept = {number: os.dup(number) for number in (1, 2)}
    streams, hook, handlers = (sys.stdout, sys.stderr), sys.excepthook, logging.root.handlers
    try:
        for number in kept:
            os.dup2(target, number)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        logging.root.handlers = []
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = _show_warning
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        (sys.stdout, sys.stderr), sys.excepthook, logging.root.handlers = streams, hook, handlers
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    """As Python shows a warning, where pytest has replaced that."""
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
