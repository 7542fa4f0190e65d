"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1, and two that want one folder."""

import contextlib
import gc
import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from support.crash import results
from support.quick import BASE, CHUNKS, FLAGS, TEXT, quick, refused
from support.shell import call

from seqjax import Experiment, Run, Text, signals, sweep
from seqjax.models import RNN
from seqjax.runs import listen
from seqjax.runs.files import folder
from seqjax.runs.progress import Display
from seqjax.samplers import Sequential
from seqjax.signals import Ended, ending_at_signals, noticed
from seqjax.training import feed, loop

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
    made, take = [], listen.Training.take
    monkeypatch.setattr(listen.Training, "take", lambda *args: (made.append(args[1]), take(*args))[1])
    return made


def after(monkeypatch, chunks, n, do=lambda: signal.raise_signal(signal.SIGINT)):
    """Calls a function when the n-th chunk was recorded, by default one that sends Ctrl-C."""
    take = listen.Training.take
    stand_in = lambda *args: (take(*args), do() if len(chunks) == n else None)[0]
    monkeypatch.setattr(listen.Training, "take", stand_in)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_is_an_exception_and_handlers_are_restored(tmp_path, monkeypatch, chunks, whole, capfd, number, kind):
    before = [signal.getsignal(one) for one in SIGNALS]
    after(monkeypatch, chunks, 2, lambda: signal.raise_signal(number))
    with pytest.raises(kind) as caught:
        BASE.run(tmp_path / "run")
    assert type(caught.value) is kind, "Python ends with 130 after exactly a KeyboardInterrupt"
    assert str(caught.value) == "143" or "update 4, and saved in" in str(caught.value)
    assert kind is KeyboardInterrupt or "update 4, and saved in" in capfd.readouterr().err
    assert len(chunks) == 2, "the current step was the last"
    assert [signal.getsignal(one) for one in SIGNALS] == before
    assert results(BASE.run(tmp_path / "run").path) == whole
    assert len(chunks) == 2 * CHUNKS, "none was trained twice"
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_signal_in_the_last_step_ends_the_program_when_the_run_is_finished(tmp_path, monkeypatch, chunks):
    """A sweep does not begin its next run."""
    after(monkeypatch, chunks, 2 * CHUNKS)
    with pytest.raises(KeyboardInterrupt, match="at the end of training"):
        sweep(BASE, {"seed": range(3)}, tmp_path)
    assert Run.open(tmp_path / "seed-0").finished
    assert not (tmp_path / "seed-1").exists()


def test_a_signal_when_nobody_reads_what_is_printed_still_saves(tmp_path, monkeypatch, chunks):
    """Ctrl-C also ends the other commands of a pipe, such as `seqjax run 2>&1 | tee log`."""

    def refuse(*_):
        raise BrokenPipeError

    def close():
        monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=refuse, flush=refuse, isatty=refuse))
        monkeypatch.setattr(Display, "_epoch", refuse)

    after(monkeypatch, chunks, 2, close)
    after(monkeypatch, chunks, CHUNKS)  # an epoch ends, so that a line is printed
    with pytest.raises(KeyboardInterrupt):
        BASE.run(tmp_path, progress=True)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_a_compile_is_left_at_once_and_the_same_call_begins_anew(tmp_path, monkeypatch, chunks, whole):
    """Nothing was trained, so that the handler outside of training is called, here that of Python."""
    compiled = loop.compiled_epoch

    lower = lambda *args: (signal.raise_signal(signal.SIGINT), compiled.lower(*args))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "compiled_epoch", SimpleNamespace(eval_shape=compiled.eval_shape, lower=lower))
        with pytest.raises(KeyboardInterrupt) as caught:
            BASE.run(tmp_path)
    assert (str(caught.value), chunks) == ("", [])
    assert results(BASE.run(tmp_path).path) == whole


FORKING = """
import contextlib, ctypes, functools, json, os, pathlib, signal, sys, threading
from faults.children import outcomes
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
def hanging(*contexts):
    def work(number):
        with contextlib.ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            hang(*[number] * (2 if contexts[-1] is noticed else 1))
    return work
nothing_to_lose = lambda: noticed(lambda: False)
works = {
    "importing": importing,
    "command": hanging(ending_at_signals),
    "command, nothing to lose": hanging(ending_at_signals, nothing_to_lose),
    "Python, nothing to lose": hanging(nothing_to_lose),
    "step in a command": hanging(ending_at_signals, noticed),
    "step in Python": hanging(noticed),
}
tasks = []
for name, work in works.items():
    for number in signals.ENDING[name == "Python, nothing to lose":]:  # Ctrl-C waits there until Python raises it
        tasks.append(((name, number), pathlib.Path(), functools.partial(work, number)))
for (name, number), outcome in outcomes(tasks, seconds=30):
    print(json.dumps([name, number, outcome.code, outcome.err]))
"""
"""Calls functions with signals, each call in a process of its own, and prints its exit code and what it has said.

`hang` sends signals to its own process, while the main thread waits in C forever, as a compiler may."""


def test_a_process_that_hangs_or_imports_ends_at_a_signal(tmp_path):
    """At the first one if nothing can be lost, else at the second, of which the message tells."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FORKING]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 6 * 3 - 1
    for name, number, code, said in found:
        assert code == 128 + number, (name, said)
        assert ("the same signal again" in said) == name.startswith("step"), (name, said)
        if name.startswith(("importing", "command")):
            assert said == f"seqjax: {Ended(number)}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def heard():
    """The numbers of the signals that reach the handlers outside of training."""
    found = []
    numbers = (*SIGNALS, signal.SIGWINCH)
    before = {number: signal.signal(number, lambda number, _: found.append(number)) for number in numbers}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_while_nothing_can_be_lost_a_signal_does_what_it_does_elsewhere(heard, number):
    """But SIGUSR1 waits for a step that can be saved: a job that it restarted each time before would get nowhere."""
    is_passed_on = number != signal.SIGUSR1
    with noticed(lambda: False) as interrupted:
        signal.raise_signal(number)
        assert interrupted() == (None if is_passed_on else 128 + number)
    assert heard == [number] * is_passed_on
    with noticed(lambda: True) as interrupted:
        signal.raise_signal(number)
        assert interrupted() == 128 + number
    assert heard == [number] * is_passed_on, "whoever asked ends the program"


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
    try:
        with noticed(lambda: False):
            signal.raise_signal(number)
        assert os.read(reader, 9) == bytes([number])
    finally:
        assert signal.set_wakeup_fd(before) == writer


@pytest.fixture(autouse=True)
def small_heap():
    """No collection of all that other tests hold, which may take longer than `GRACE`."""
    gc.freeze()
    yield
    gc.unfreeze()


def collect(number):
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
    time.sleep(10)


@pytest.mark.parametrize("inner", [contextlib.nullcontext, lambda: noticed(lambda: False)])
@pytest.mark.parametrize("is_late", [False, True], ids=["seen at once", "seen after it was sent again"])
def test_a_signal_whose_exception_python_ignores_is_raised_again(monkeypatch, inner, is_late):
    sent_again, see, kill = threading.Event(), signals._see, signal.pthread_kill
    monkeypatch.setattr(signals, "GRACE", 30.0)  # on a machine with other work, a collection may take seconds
    monkeypatch.setattr(signals.signal, "pthread_kill", lambda *args: (kill(*args), sent_again.set()))
    monkeypatch.setattr(signals, "_see", lambda number: (not is_late or sent_again.wait(10)) and see(number))

    def collect_and_wait():
        collect(signal.SIGTERM)
        sent_again.wait(10)  # after the context, the signal would end the process

    with pytest.raises(Ended) as caught, ending_at_signals(), inner():
        collect_and_wait()
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
        send(patch, Display, "__exit__")
        done = call("run", *FLAGS, "--out", "run")
    again = call("run", *FLAGS, "--out", "run")
    assert sent == ["__exit__", "_say_what_next", "_say_what_next"]
    for each in (done, again):
        assert (each.returncode, each.stderr) == (0, "")
        assert "saved    run\n" in each.stdout
    assert heard == []


def test_in_a_thread_nothing_is_installed():
    found, before = [], [signal.getsignal(one) for one in SIGNALS]

    def look():
        with ending_at_signals() as ended, noticed() as interrupted:
            found.extend([*map(signal.getsignal, SIGNALS), ended(), interrupted()])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [*before, None, None]


def test_a_signal_that_is_ignored_stays_so(heard):
    """Such as Ctrl-C in a background job, and signals that nohup blocks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ZeroDivisionError), noticed() as interrupted:
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert interrupted() is None
        signal.raise_signal(signal.SIGTERM)
        assert interrupted() == 143
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM], "after an error the handlers are restored, too"


@pytest.mark.slow
def test_in_memory_ctrl_c_is_heard_while_a_step_computes(monkeypatch):
    """During a chunk that takes minutes, the exception is raised before its end, in the main thread."""
    long = Experiment(
        dataset=Text("ab" * 300_000), train=1.0, heldout=0, model=RNN(hidden=64), sampler=Sequential(1, 100), epochs=1
    )
    monkeypatch.setattr(feed, "CHUNK_STEPS", 2**40)
    wait, waited_for = jax.device_get, []

    def interrupt(updates):
        waited_for.append(updates["loss"])
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        return wait(updates)

    monkeypatch.setattr(jax, "device_get", interrupt)
    with pytest.raises(KeyboardInterrupt):
        long.run()
    assert not waited_for[0].is_ready(), "the step was over before Ctrl-C was heard"
    waited_for[0].block_until_ready()


def test_a_command_without_a_folder_prints_how_to_resume(tmp_path, monkeypatch, chunks, whole):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    after(monkeypatch, chunks, 2)
    done = call("run", *FLAGS)
    assert done.returncode == 130
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("next"))
    words = shlex.split(line)
    assert words[1:] == ["seqjax", "run", *FLAGS, "--out", "runs/text-file-rnn-1"]
    assert "saved in runs/text-file-rnn-1" in done.stderr
    assert call(*words[2:]).returncode == 0
    assert results(Path("runs/text-file-rnn-1")) == whole


def test_a_file_system_without_locks_is_exit_6(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(folder.fcntl, "flock", refuse)
    with refused("No locks available", exit_code=6), folder.lock(tmp_path):
        pass
