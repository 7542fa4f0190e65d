"""Faults of seqjax itself, planted one by one: each is caught by the part of `make faults` that looks for it."""

import contextlib
import hashlib
import os
import pickle
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import pytest

from faults import children, crash, errors, escapes, flips, fuzz, signals
from faults.children import Outcome, in_new_process
from faults.kinds import BY_NAME
from seqjax.cli import command, new, run
from seqjax.runs import record
from seqjax.runs.files import checkpoint, folder, store
from seqjax.runs.files.manifest import read_manifest, write_manifest
from seqjax.terminal.lasting import LastingStream
from seqjax.terminal.stream import unescaped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def place(tmp_path):
    """A folder that does not exist."""
    return tmp_path / "place"


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
            write_manifest(path, manifest._replace(files=manifest.files | {name: hashlib.sha256(data).hexdigest()}))
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


def restored(change):
    return checkpoint, "restore", lambda real: lambda *args: change(real(*args))


def but_metrics(real):
    return lambda path: None if path.name == folder.METRICS else real(path)


KILLS, CUTS = {"most_cuts": 0}, {"most_kills": 0, "most_cuts": 200}


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(
    ("name", "faults", "tried", "words"),
    [
        ("rnn", late_fsync(), CUTS, "exit code 4"),
        ("rnn", [(store, "_write", manifest_first)], KILLS, "0000000004.safetensors is missing"),
        ("rnn", [(store, "_write", manifest_first)], KILLS, "params.safetensors is missing"),
        ("more epochs", [(store, "write_manifest", config_at_once)], KILLS, "config.toml has changed"),
        ("rnn", [unlisted("checkpoints/")], KILLS, "other bits in"),
        ("rnn", [(store, "sync", but_metrics)], CUTS, "metrics.jsonl"),
        (
            "lstm, dropout, truncated, adam",
            [restored(lambda state: state._replace(key=jax.random.split(state.key)[0]))],
            *(KILLS, "params.safetensors"),
        ),
        ("rnn", [restored(lambda state: state._replace(update=state.update + 1))], KILLS, "params.safetensors"),
    ],
    ids=[
        *("a rename before the fsync", "a manifest before the checkpoint", "a manifest before the results"),
        *("a config without next_config", "a checkpoint that is not listed", "rows that are not synced"),
        *("a key drawn twice", "a cursor off by one"),
    ],
)
def test_a_fault_is_caught_by_kills_or_power_cuts(place, name, faults, tried, words):
    found = crash.states_of(planted(name, *faults), place, **tried)
    assert any(words in problem for part in found for problem in part.problems), found


@pytest.mark.slow
def test_a_file_that_is_left_out_of_the_manifest_is_caught_by_flips(place):
    found = flips.flips_of(planted("rnn", unlisted(folder.ENVIRONMENT)), place, every=50, only=folder.ENVIRONMENT)
    problems = [problem for part in found for problem in part.problems]
    # Some changes make another error, such as that of JSON.
    assert any("silent" in problem for problem in problems), problems[:5]
    assert all("environment.json" in problem for problem in problems), problems[:5]


@pytest.mark.slow
def test_a_temporary_file_that_stays_is_caught_by_errors(place):
    def keep_parts(real):
        return lambda path, **kwargs: None if os.fspath(path).endswith(".part") else real(path, **kwargs)

    found = errors.errors_of(planted("rnn", (os, "unlink", keep_parts)), place, errors.FAILURES[:1], every=4)
    problems = [problem for part in found for problem in part.problems]
    assert any("left over" in problem and ".part" in problem for problem in problems)


def no_handler():
    record.noticed = lambda _: contextlib.nullcontext(lambda: None)


def no_handler_before_training():
    command.ending_at_signals = lambda: contextlib.nullcontext(lambda: None)


def no_handler_after_training():
    run.too_early_to_save = contextlib.nullcontext


def no_checkpoint():
    record.Recorder.save = lambda self: None


def a_write_that_fails():
    LastingStream._try = lambda self, work: work(self.stream)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "plant", "words"),
    [
        ("SIGTERM, later step", no_handler, "chunks were lost"),
        ("SIGHUP, later step", no_checkpoint, "chunks were lost"),
        ("SIGTERM, prepare", no_handler_before_training, "exit code -15 in place of 143"),
        ("SIGUSR1, after it", no_handler_after_training, "exit code -10 in place of 0"),
        ("run, a reader of stdout that goes away", a_write_that_fails, "exit code "),
    ],
)
def test_a_fault_is_caught_by_signals(name, plant, words):
    (problem,) = in_new_process(signals.problems, [name], plant)
    assert problem.startswith(name)
    assert words in problem


def raw_lines():
    new.line = lambda label, text: unescaped(sys.stdout).write(f"{label:8} {text}\n")


def raw_streams():
    command.escape_streams = lambda: None


def silence():
    escapes.main = lambda argv: 0


@pytest.mark.parametrize(
    ("name", "plant", "words"),
    [
        ("folder of a new plugin", raw_lines, "printed "),
        ("docstring of a plugin", raw_streams, "printed "),
        ("unknown verb", silence, "it is not shown"),
    ],
)
def test_a_fault_is_caught_by_escapes(name, plant, words):
    (problem,) = in_new_process(escapes.problems, [name], plant)
    assert problem.startswith(f"{name}: {words}")


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


def endings():
    """How processes end."""
    children.SECONDS = 1.0
    works = {
        "ends": lambda: print("out") or 3,
        "raises": lambda: 1 / 0,
        "aborts": os.abort,
        "hangs": lambda: time.sleep(60),
        "unpickles": lambda: pickle.loads(pickle.dumps(Path("x"))) and 0,
    }
    found = children.outcomes((name, Path(), work) for name, work in works.items())
    return {name: (outcome.code, outcome.hung, "Traceback" in outcome.err, outcome.out) for name, outcome in found}


def test_how_a_process_ended_is_seen():
    assert in_new_process(endings) == {
        "ends": (3, False, False, "out\n"),
        "raises": (1, False, True, ""),
        "aborts": (-6, False, False, ""),
        "hangs": (-9, True, False, ""),
        "unpickles": (children.UNPICKLED, False, False, ""),
    }
