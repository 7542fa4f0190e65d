"""Faults of seqjax itself, planted one by one: each is caught by the part of `make faults` that looks for it."""

import contextlib
import os
import pickle
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from faults import children, crash, errors, escapes, flips, fuzz, signals
from faults.children import Outcome, in_new_process
from faults.kinds import BY_NAME
from seqjax.cli import command, new
from seqjax.runs import job, listen
from seqjax.runs.files import folder, store
from seqjax.runs.files.manifest import content_of, read_manifest, write_manifest
from seqjax.terminal.lasting import LastingStream
from seqjax.terminal.stream import unescaped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def planted(name, *faults):
    """A kind of run whose command has faults: (module, name of a function, function -> what replaces it)."""
    kind = BY_NAME[name]

    def command(data, out):
        with contextlib.ExitStack() as stack:
            for module, attribute, make in faults:
                stack.enter_context(mock.patch.object(module, attribute, make(getattr(module, attribute))))
            return kind.command(data, out)

    return kind._replace(command=command)


def late_fsync():
    """A file is renamed, and synced only then."""

    def fsync(real):
        return lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}").endswith(".part") or real(descriptor)

    def replace(real):
        def call(part, path):
            real(part, path)
            descriptor = os.open(path, os.O_RDONLY)
            sync(descriptor)
            os.close(descriptor)

        sync = os.fsync
        return call

    # The rename is replaced first, so that it still has the fsync that works.
    return (os, "replace", replace), (os, "fsync", fsync)


def manifest_first(real):
    """The manifest lists a file before it is written."""

    def write(path, name, data):
        if name not in folder.FIRST:
            manifest = read_manifest(path)
            write_manifest(path, manifest._replace(files=manifest.files | {name: content_of(data)}))
        real(path, name, data)

    return write


def config_at_once(real):
    """The config is replaced without a manifest that says so."""
    return lambda path, manifest: manifest.next_config or real(path, manifest)


def unlisted(name):
    """A file is left out of the manifest; it begins with this name."""

    def leave_out(real):
        def write(path, manifest):
            real(path, manifest._replace(files={n: h for n, h in manifest.files.items() if not n.startswith(name)}))

        return write

    return store, "write_manifest", leave_out


def but_metrics(real):
    return lambda path: None if path.name == folder.METRICS else real(path)


def off_by_one(real):
    def restore(*args):
        state = real(*args)
        return state._replace(update=state.update + 1)

    return restore


def keep_parts(real):
    return lambda path, **kwargs: None if os.fspath(path).endswith(".part") else real(path, **kwargs)


TRIALS = {
    "kills": lambda kind, root: crash.states_of(kind, root, most_cuts=0),
    "cuts": lambda kind, root: crash.states_of(kind, root, most_kills=0, most_cuts=200),
    "flips": lambda kind, root: flips.flips_of(kind, root, every=50, only=folder.SAMPLES),
    "errors": lambda kind, root: errors.errors_of(kind, root, errors.FAILURES[:1], every=4),
}
FAULTS = {
    "a rename before the fsync": ("cuts", planted("rnn", *late_fsync()), "exit code 4"),
    "a manifest before the results": ("kills", planted("rnn", (store, "_write", manifest_first)), "params.safetensors"),
    "a config at once": ("kills", planted("more epochs", (store, "write_manifest", config_at_once)), "config.toml has"),
    "rows that are not synced": ("cuts", planted("rnn", (store, "sync", but_metrics)), "metrics.jsonl"),
    "a cursor off by one": ("kills", planted("rnn", (job, "restore", off_by_one)), "params.safetensors"),
    "a file that is not listed": ("flips", planted("rnn", unlisted(folder.SAMPLES)), "silent"),
    "a temporary file that stays": ("errors", planted("rnn", (os, "unlink", keep_parts)), ".part"),
}
"""What is wrong -> how it is looked for, a kind of run with the fault, and words of the problem."""


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_by_kills_power_cuts_changes_and_errors(tmp_path, name):
    trial, kind, words = FAULTS[name]
    problems = [problem for part in TRIALS[trial](kind, tmp_path / "place") for problem in part.problems]
    assert any(words in problem for problem in problems), problems[:5]


def not_noticed(*_):
    return contextlib.nullcontext(lambda: None)


def try_once(self, work):
    work(self.stream)


def raw_line(label, text):
    unescaped(sys.stdout).write(f"{label:8} {text}\n")


SIGNALS = {
    "SIGTERM, later step": (listen, "noticed", not_noticed, "chunks were lost"),
    "SIGHUP, later step": (listen.Training, "save", lambda self: None, "chunks were lost"),
    "SIGTERM, prepare": (command, "ending_at_signals", not_noticed, "exit code -15 in place of 143"),
    "run, a reader of stdout that goes away": (LastingStream, "_try", try_once, "exit code"),
}
"""Case -> the fault that is planted for it, and the words of the problem."""
ESCAPES = {
    "folder of a new plugin": (new, "line", raw_line, "printed "),
    "docstring of a plugin": (command, "escape_streams", lambda: None, "printed "),
    "unknown verb": (escapes, "main", lambda argv: 0, "it is not shown"),
}


def plant(name):
    if name in SIGNALS | ESCAPES:
        setattr(*(SIGNALS | ESCAPES)[name][:3])


@pytest.mark.slow
def test_faults_are_caught_by_signals():
    found = {problem.partition(":")[0]: problem for problem in in_new_process(signals.problems, [*SIGNALS], plant)}
    assert found.keys() == SIGNALS.keys(), found
    assert all(words in found[name] for name, (*_, words) in SIGNALS.items()), found


ENDINGS = {
    "ends": (lambda: print("out") or 3, (3, False, False, "out\n")),
    "raises": (lambda: 1 / 0, (1, False, True, "")),
    "aborts": (os.abort, (-6, False, False, "")),
    "hangs": (lambda: time.sleep(60), (-9, True, False, "")),
    "unpickles": (lambda: pickle.loads(pickle.dumps(Path("x"))) and 0, (children.UNPICKLED, False, False, "")),
}
"""What a process does -> how it ended: its exit code, whether it hung, whether it raised an exception, its stdout."""


def endings():
    found = children.outcomes(((name, Path(), work) for name, (work, _) in ENDINGS.items()), seconds=1)
    return {name: (outcome.code, outcome.hung, "Traceback" in outcome.err, outcome.out) for name, outcome in found}


def few_escapes():
    """What is wrong with each sixth of the quick places, and those where a fault is planted; how processes end."""
    names = [name for name, place in escapes.PLACES.items() if not place.is_slow and name not in ESCAPES]
    return escapes.problems([*names[::6], *ESCAPES], plant), endings()


@pytest.fixture(scope="module")
def in_a_new_process():
    return in_new_process(few_escapes)


@pytest.mark.slow
def test_control_characters_are_printed_only_where_a_fault_is_planted(in_a_new_process):
    found = {problem.partition(":")[0]: problem for problem in in_a_new_process[0] if problem}
    assert found.keys() == ESCAPES.keys(), found
    assert all(words in found[name] for name, (*_, words) in ESCAPES.items()), found


@pytest.mark.slow
def test_how_a_process_ended_is_seen(in_a_new_process):
    assert in_a_new_process[1] == {name: expected for name, (_, expected) in ENDINGS.items()}


CASE = fuzz.Case("changed", ["evaluate", "rnn"], ["rnn"], "rnn/codec.json", type("Any", (), {"keeps_file": True}))
SAID = Outcome(4, "", "seqjax: it is damaged\n", False)


def test_what_does_not_hold_is_caught_by_the_fuzzer():
    there = {"rnn/codec.json": "a", "text.txt": "a", "rnn/.lock": "a"}
    for change, words in (
        ({"hung": True, "code": -9}, "hangs"),
        ({"code": children.UNPICKLED}, "unpickles"),
        ({"code": -6}, "exit code -6"),
        ({"code": 2}, "exit code 2 in place of 4"),
        ({"code": 0}, "exit code 0 in place of 4"),
        ({"err": ""}, "without a message"),
        ({"err": "Traceback (most recent call last):\n  x\nKeyError: 1\n"}, "a traceback: KeyError: 1"),
        ({"code": 1, "err": "seqjax: a fault of seqjax itself"}, "a traceback"),
        ({"out": "\x9b"}, "a control character"),
    ):
        assert words in fuzz.problem_of(CASE, SAID._replace(**change), there, there)
    for after in ({**there, "text.txt": "b"}, {"rnn/codec.json": "a"}):
        assert "it changed text.txt" in fuzz.problem_of(CASE, SAID, there, after)
    assert fuzz.problem_of(CASE, SAID, there, {**there, "rnn/.lock": "b"}) is None
