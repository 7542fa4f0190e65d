"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1, and two that want one folder."""

import contextlib
import gc
import importlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.crash import results
from support.quick import BASE, CHUNKS, FLAGS, TEXT, quick
from support.shell import call

from seqjax import Error, Experiment, Run, Text, sweep
from seqjax.runs import execute, record
from seqjax.runs.files import folder
from seqjax.signals import Ended, ending_at_signals, noticed
from seqjax.training import feed, loop
from seqjax_models import RNN
from seqjax_samplers import Sequential

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNALS = (*ENDING, signal.SIGUSR1)


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with quick():
        yield


@pytest.fixture(scope="module")
def whole(small_chunks, tmp_path_factory):
    """The results of a run without a signal."""
    return results(BASE.run(tmp_path_factory.mktemp("whole") / "run").path)


@pytest.fixture
def chunks(monkeypatch):
    """The chunks that are trained."""
    made, take = [], record.Recorder.take
    monkeypatch.setattr(record.Recorder, "take", lambda *args: (made.append(args[1]), take(*args))[1])
    return made


def interrupt_after(monkeypatch, chunks, n, number=signal.SIGINT):
    """Sends a signal while the n-th chunk is recorded."""
    take = record.Recorder.take

    def send(*args):
        ended = take(*args)
        if len(chunks) == n:
            signal.raise_signal(number)
        return ended

    monkeypatch.setattr(record.Recorder, "take", send)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_is_an_exception_and_the_handlers_are_restored(
    tmp_path, monkeypatch, chunks, whole, capfd, number, kind
):
    before = [signal.getsignal(one) for one in SIGNALS]
    interrupt_after(monkeypatch, chunks, 2, number)
    with pytest.raises(kind) as caught:
        BASE.run(tmp_path / "run")
    assert type(caught.value) is kind, "Python ends with 130 after exactly a KeyboardInterrupt"
    assert str(caught.value) == "143" or "update 8, and saved in" in str(caught.value)
    assert kind is KeyboardInterrupt or "update 8, and saved in" in capfd.readouterr().err
    assert len(chunks) == 2, "the current step was the last"
    assert [signal.getsignal(one) for one in SIGNALS] == before
    assert results(BASE.run(tmp_path / "run").path) == whole
    assert len(chunks) == 2 * CHUNKS, "none was trained twice"
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_signal_in_the_last_step_ends_the_program_when_the_run_is_finished(tmp_path, monkeypatch, chunks):
    """A sweep does not begin its next run."""
    interrupt_after(monkeypatch, chunks, 2 * CHUNKS)
    with pytest.raises(KeyboardInterrupt, match="at the end of training"):
        sweep(BASE, {"seed": range(3)}, tmp_path)
    assert Run.open(tmp_path / "seed-0").finished
    assert not (tmp_path / "seed-1").exists()


def test_a_signal_when_nobody_reads_what_is_printed_still_saves(tmp_path, monkeypatch, chunks):
    """Ctrl-C also ends the other commands of a pipe, such as `seqjax run 2>&1 | tee log`."""

    class Closed:
        def write(self, text):
            raise BrokenPipeError

        flush = isatty = write

    interrupt_after(monkeypatch, chunks, CHUNKS)  # an epoch ends, so that a line is printed
    send = record.Recorder.take

    def close(*args):
        if len(chunks) == 2:
            monkeypatch.setattr(sys, "stderr", Closed())
            monkeypatch.setattr(execute.Display, "row", lambda *args: Closed().write(""))
        return send(*args)

    monkeypatch.setattr(record.Recorder, "take", close)
    with pytest.raises(KeyboardInterrupt):
        BASE.run(tmp_path, progress=True)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_a_compile_is_left_at_once_and_the_same_call_begins_anew(tmp_path, monkeypatch, chunks, whole):
    """Nothing was trained, so that the handler outside of training is called, here that of Python."""
    compiled = loop.compiled_epoch

    class Interrupted:
        eval_shape = compiled.eval_shape

        def lower(self, *args):
            signal.raise_signal(signal.SIGINT)
            return compiled.lower(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "compiled_epoch", Interrupted())
        with pytest.raises(KeyboardInterrupt) as caught:
            BASE.run(tmp_path)
    assert (str(caught.value), chunks) == ("", [])
    assert results(BASE.run(tmp_path).path) == whole


FORKING = """
import ctypes, json, os, signal, sys, tempfile, threading
from seqjax import cli, signals
from seqjax.signals import ending_at_signals, noticed
signals.GRACE = 0.1

def hang(*numbers):
    for n, number in enumerate(numbers):
        threading.Timer(0.1 + 0.4 * n, os.kill, (os.getpid(), number)).start()
    mutex = ctypes.create_string_buffer(64)  # a mutex of pthread, which is initialized to zeros
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)

def importing(number):
    class Finder:
        def find_spec(name, *_):
            if name == "jax":
                os.kill(os.getpid(), number)
    sys.meta_path.insert(0, Finder)
    return cli.main(["run", "--out", "run"])

def command(number):
    with ending_at_signals(): hang(number)
def nothing_to_lose_in_a_command(number):
    with ending_at_signals(), noticed(lambda: False): hang(number)
def nothing_to_lose_in_python(number):
    with noticed(lambda: False): hang(number)
def step_in_a_command(number):
    with ending_at_signals(), noticed(): hang(number, number)
def step_in_python(number):
    with noticed(): hang(number, number)

children = []
for name, numbers in json.loads(sys.argv[1]):
    for number in numbers:
        said = tempfile.TemporaryFile()
        if (pid := os.fork()) == 0:
            os.dup2(said.fileno(), 2)
            os._exit(globals()[name](number))
        children.append((pid, said))
for pid, said in children:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said.seek(0)
    print(json.dumps([code, said.read().decode()]))
"""
"""Calls functions with signals, each call in a process of its own, and prints its exit code and what it has said.

`hang` sends signals to its own process, while the main thread waits in C forever, as a compiler may."""


def test_a_process_that_hangs_or_imports_ends_at_a_signal(tmp_path):
    """At the first one if nothing can be lost, else at the second, of which the message tells."""
    cases = {
        "importing": ENDING,
        "command": ENDING,
        "nothing_to_lose_in_a_command": ENDING,
        "nothing_to_lose_in_python": ENDING[1:],  # Ctrl-C waits there for Python to raise its exception
        "step_in_a_command": ENDING,
        "step_in_python": ENDING,
    }
    argv = [sys.executable, "-c", FORKING, json.dumps([*cases.items()])]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [(name, number) for name, numbers in cases.items() for number in numbers]
    for (name, number), (code, said) in zip(expected, found, strict=True):
        assert code == 128 + number, (name, number, said)
        assert ("the same signal again" in said) == name.startswith("step"), (name, said)
        if name in ("importing", "command", "nothing_to_lose_in_a_command"):
            assert said == f"seqjax: {Ended(number)}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def heard():
    """The numbers of the signals that reach the handlers outside of training."""
    found = []
    before = {number: signal.signal(number, lambda number, _: found.append(number)) for number in SIGNALS}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_while_nothing_can_be_lost_a_signal_does_what_it_does_elsewhere(heard, number):
    with noticed(lambda: False) as interrupted:
        signal.raise_signal(number)
        assert interrupted() is None
    assert heard == [number]
    with noticed(lambda: True) as interrupted:
        signal.raise_signal(number)
        assert interrupted() == 128 + number
    assert heard == [number], "whoever asked ends the program"


def test_sigusr1_waits_for_a_step_that_can_be_saved(heard):
    """A job that it restarted each time before the first step would never get further."""
    with noticed(lambda: False) as interrupted:
        signal.raise_signal(signal.SIGUSR1)
        assert interrupted() == 128 + signal.SIGUSR1
    assert heard == []


def test_a_signal_after_the_last_question_is_not_lost(heard):
    with noticed() as interrupted:
        assert interrupted() is None
        signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


@pytest.mark.parametrize("number", [signal.SIGWINCH, signal.SIGTERM])
def test_signals_of_others_reach_who_watched_them_before(heard, number):
    """Such as the event loop of a notebook, also with a signal that does what it does outside of training."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    other = signal.signal(signal.SIGWINCH, lambda *_: None)
    try:
        with noticed(lambda: False):
            signal.raise_signal(number)
        assert os.read(reader, 9) == bytes([number])
        assert signal.set_wakeup_fd(before) == writer
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGWINCH, other)
        os.close(reader)
        os.close(writer)


def collect(number, work=lambda: time.sleep(10)):
    """Sends a signal in a callback of the garbage collector, of which JAX has one: Python ignores its exceptions."""
    ignored = []

    def in_the_callback(phase, info):
        if not ignored:
            ignored.append(phase)
            signal.raise_signal(number)

    gc.callbacks.append(in_the_callback)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(in_the_callback)
    assert ignored
    return work()


@pytest.mark.parametrize("inner", [contextlib.nullcontext, lambda: noticed(lambda: False)])
def test_a_signal_whose_exception_python_ignores_is_raised_again(inner):
    with pytest.raises(Ended) as caught, ending_at_signals(), inner():
        collect(signal.SIGTERM)
    assert caught.value.exit_code == 143


@pytest.mark.parametrize("send", [signal.raise_signal, collect])
def test_before_training_sigusr1_ends_the_command_with_2(tmp_path, monkeypatch, heard, send):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Experiment, "prepare", lambda e: send(signal.SIGUSR1))
    done = call("run", *FLAGS, "--out", "run")
    assert done.returncode == 2
    assert done.stderr.startswith("seqjax: SIGUSR1 arrived before training had begun: allow the job more time")
    assert list(tmp_path.iterdir()) == []


def test_after_training_sigusr1_loses_nothing(tmp_path, monkeypatch, heard):
    """While the tracker is closed, while the folder is printed, and when the finished run is opened."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    sent = []

    def send(patch, owner, name):
        real = getattr(owner, name)
        stand_in = lambda *args: (sent.append(name), signal.raise_signal(signal.SIGUSR1), real(*args))[-1]
        patch.setattr(owner, name, stand_in)

    send(monkeypatch, importlib.import_module("seqjax.cli.run"), "_say_what_next")
    with monkeypatch.context() as patch:
        send(patch, record.SafeMirror, "close")
        done = call("run", *FLAGS, "--out", "run")
    again = call("run", *FLAGS, "--out", "run")
    assert sent == ["close", "_say_what_next", "_say_what_next"]
    for each in (done, again):
        assert (each.returncode, each.stderr) == (0, "")
        assert "saved    run\n" in each.stdout
    assert heard == []


def test_in_a_thread_nothing_is_installed():
    found = []

    def look():
        with ending_at_signals() as ended, noticed() as interrupted:
            found.extend([*map(signal.getsignal, SIGNALS), ended(), interrupted()])

    before = [signal.getsignal(one) for one in SIGNALS]
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [*before, None, None]


def test_handlers_are_restored_after_an_error():
    before = [signal.getsignal(one) for one in SIGNALS]
    with contextlib.suppress(ZeroDivisionError), noticed() as interrupted:
        assert interrupted() is None
        assert signal.getsignal(signal.SIGINT) != before[0]
        raise ZeroDivisionError
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_signal_that_is_ignored_stays_so():
    """Such as Ctrl-C in a background job, and signals that nohup blocks."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noticed() as interrupted:
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            assert interrupted() is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_in_memory_ctrl_c_is_heard_while_a_step_computes(monkeypatch):
    """During a chunk that takes minutes, the exception is raised before its end, in the main thread."""
    e = Experiment(
        dataset=Text("ab" * 300_000), train=1.0, heldout=0, model=RNN(hidden=64), sampler=Sequential(1, 100), epochs=1
    )
    monkeypatch.setattr(feed, "CHUNK_STEPS", 2**40)
    call, waited_for = loop._timed_call, []

    def interrupt(compiled, args):
        compiled.lower(*args).compile()

        class Interrupting:
            def lower(self, *args):
                return compiled.lower(*args)

            def __call__(self, *args):
                state, updates = compiled(*args)
                waited_for.append(updates["loss"])
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                return state, updates

        return call(Interrupting(), args)

    monkeypatch.setattr(loop, "_timed_call", interrupt)
    with pytest.raises(KeyboardInterrupt):
        e.run()
    assert not waited_for[0].is_ready(), "the step was over before Ctrl-C was heard"
    waited_for[0].block_until_ready()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_without_a_folder_prints_how_to_resume(tmp_path, monkeypatch, chunks, whole, number, code):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    interrupt_after(monkeypatch, chunks, 2, number)
    done = call("run", *FLAGS)
    assert done.returncode == code
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("next"))
    words = shlex.split(line)
    assert words[1:] == ["seqjax", "run", *FLAGS, "--out", "runs/text-file-rnn-1"]
    assert "saved in runs/text-file-rnn-1" in done.stderr
    assert call(*words[2:]).returncode == 0
    assert results(Path("runs/text-file-rnn-1")) == whole
    assert len(list(tmp_path.glob("runs/*"))) == 1


def test_a_folder_in_use_is_exit_5_with_the_process_and_the_machine(tmp_path, monkeypatch, whole):
    """The folder is free again after that; a finished run can be opened meanwhile."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    with folder.lock(Path("run")):
        done = call("run", *FLAGS, "--out", "run")
    assert done.returncode == 5, done.stderr
    for words in ("run is in use", f"process {os.getpid()} on {socket.gethostname()}", "another folder"):
        assert words in done.stderr
    assert [file.name for file in Path("run").iterdir()] == [".lock"]
    assert call("run", *FLAGS, "--out", "run").returncode == 0
    with folder.lock(Path("run")):
        assert call("run", *FLAGS, "--out", "run").returncode == 0
    assert results(Path("run")) == whole


def test_a_file_system_without_locks_is_exit_6(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(folder.fcntl, "flock", refuse)
    with pytest.raises(Error, match="No locks available") as caught, folder.lock(tmp_path):
        pass
    assert caught.value.exit_code == 6
