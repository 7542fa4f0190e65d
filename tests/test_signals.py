"""Ctrl-C, SIGTERM, SIGHUP, and two processes that want one folder."""

import contextlib
import gc
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from support.crash import NoFigure, experiment, results
from support.shell import call

from seqjax import Error, Experiment, Run, Text, cli, sweep
from seqjax.runs import execute, folder, record
from seqjax.runs.files.rows import read_rows
from seqjax.signals import Ended, ending_at_signals, noticed
from seqjax.training import feed, loop
from seqjax_models import RNN
from seqjax_samplers import Sequential

pytestmark = pytest.mark.usefixtures("optimized")


FLAGS = [
    *("--dataset", "text-file", "--dataset.path", "text.txt", "--train", 4000, "--heldout", 200, "--epochs", 4),
    *("--sampler.batch-size", 4, "--sampler.num-steps", 10, "--model.hidden", 8, "--out", "run"),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the dog sat on the log. " * 100)
    return tmp_path


@pytest.fixture
def chunks(monkeypatch):
    """Makes several chunks per epoch, and counts them."""
    monkeypatch.setattr(feed, "CHUNK_STEPS", 80)
    monkeypatch.setattr(Run, "plot", NoFigure)
    made, take = [], record.Recorder.take
    monkeypatch.setattr(record.Recorder, "take", lambda *args: (made.append(args[1]), take(*args))[1])
    return made


# Sends itself a signal in the middle of a chunk, of which an epoch has several, and ends as the command does.
SCRIPT = """
import os, signal, sys
from seqjax import cli
from seqjax.runs import execute, record
from seqjax.training import feed, loop
feed.CHUNK_STEPS = 400
take, chunks = record.Recorder.take, []
def send(*args):
    ended = take(*args)
    chunks.append(1)
    for number in [int(number) for number in os.environ["SIGNALS"].split()] if len(chunks) == 5 else []:
        os.kill(os.getpid(), number)
    return ended
record.Recorder.take = send
sys.exit(cli.main(sys.argv[1:]))
"""


def run(place, signals, **kwargs):
    environ = {**os.environ, "SIGNALS": signals}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, "run", *map(str, FLAGS)],
        cwd=place,
        env=environ,
        stderr=subprocess.PIPE,
        timeout=120,
        **{"stdout": subprocess.DEVNULL, "text": True, **kwargs},
    )


@pytest.mark.slow
def test_signals_end_a_command_with_128_and_their_number_and_it_goes_on(place, monkeypatch):
    """After Ctrl-C, SIGTERM and SIGHUP, the finished run has the bits of a run without signals."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(feed, "CHUNK_STEPS", 400)
    assert call("run", *FLAGS).returncode == 0
    (place / "run").rename(place / "whole")
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        done = run(place, str(int(number)))
        assert done.returncode == code, done.stderr
        for words in ("finishing this step", "interrupted at update", "saved in run", "resumes from there"):
            assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not (place / "run" / "params.safetensors").exists()
    assert len(read_rows(place / "run")) >= 1
    assert call("run", *FLAGS).returncode == 0
    assert results(place / "run") == results(place / "whole")


@pytest.mark.slow
def test_the_second_ctrl_c_ends_at_once(place):
    done = run(place, f"{int(signal.SIGINT)} {int(signal.SIGINT)}")
    assert done.returncode == 130
    assert "saved" not in done.stderr.replace("and saving", "")
    assert not (place / "run" / "checkpoints").exists(), "it did not wait to save"


def interrupt_after(monkeypatch, chunks, n, number=signal.SIGINT):
    """Sends a signal while the n-th chunk is recorded."""
    take = record.Recorder.take

    def send(*args):
        ended = take(*args)
        if len(chunks) == n:
            os.kill(os.getpid(), number)
        return ended

    monkeypatch.setattr(record.Recorder, "take", send)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_is_an_exception_and_the_handlers_are_restored(tmp_path, monkeypatch, chunks, capfd, number, kind):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    e = experiment("gru, random")
    interrupt_after(monkeypatch, chunks, 2, number)
    with pytest.raises(kind) as caught:
        e.run(tmp_path / "run")
    assert type(caught.value) is kind, "Python ends with 130 after exactly a KeyboardInterrupt"
    assert str(caught.value) == "143" or "update 8, and saved in" in str(caught.value)
    assert kind is KeyboardInterrupt or "update 8, and saved in" in capfd.readouterr().err
    assert len(chunks) == 2, "the current step was the last"
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    e.run(tmp_path / "run")
    e.run(tmp_path / "whole")
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_in_the_last_step_ends_the_program_when_the_run_is_finished(tmp_path, monkeypatch, chunks):
    """A sweep does not begin its next run."""
    e = experiment("gru, random")
    interrupt_after(monkeypatch, chunks, 6)
    with pytest.raises(KeyboardInterrupt, match="at the end of training"):
        sweep(e, {"seed": range(3)}, tmp_path)
    assert (tmp_path / "seed-0" / "params.safetensors").exists()
    assert not (tmp_path / "seed-1").exists()


def test_a_signal_when_nobody_reads_what_is_printed_still_saves(tmp_path, monkeypatch, chunks):
    """Ctrl-C also ends the other commands of a pipe, such as `seqjax run 2>&1 | tee log`."""

    class Closed:
        def write(self, text):
            raise BrokenPipeError

        flush = isatty = write

    interrupt_after(monkeypatch, chunks, 3)  # an epoch ends, so that a line is printed
    send = record.Recorder.take

    def close(*args):
        if len(chunks) == 2:
            monkeypatch.setattr(sys, "stderr", Closed())
            monkeypatch.setattr(execute.Display, "row", lambda *args: Closed().write(""))
        return send(*args)

    monkeypatch.setattr(record.Recorder, "take", close)
    with pytest.raises(KeyboardInterrupt):
        experiment("gru, random").run(tmp_path, progress=True)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


HANG = """
import ctypes, os, signal, sys, threading
from seqjax.runs import interrupt
interrupt.GRACE = 0.1

def hang(*numbers):
    for n, number in enumerate(numbers):
        threading.Timer(0.1 + 0.4 * n, os.kill, (os.getpid(), number)).start()
    mutex = ctypes.create_string_buffer(64)  # a mutex of pthread, which is initialized to zeros
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""
"""`hang` sends signals to its own process, while the main thread waits in C forever, as a compiler may."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("work", "count"),
    [
        ("with interrupt.ending_at_signals(): hang({0})", 1),
        ("with interrupt.ending_at_signals(), interrupt.noticed(lambda: False): hang({0})", 1),
        ("with interrupt.ending_at_signals(), interrupt.noticed(): hang({0}, {0})", 2),
        ("with interrupt.noticed(): hang({0}, {0})", 2),
    ],
    ids=["command", "nothing to lose", "step in a command", "step in Python"],
)
def test_a_process_that_hangs_in_c_ends_at_a_signal(number, work, count):
    """At the first one if nothing can be lost, else at the second, of which the message tells."""
    done = subprocess.run([sys.executable, "-c", HANG + work.format(int(number))], stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 128 + number
    assert (b"the same signal again" in done.stderr) == (count == 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_in_python_a_signal_that_nothing_handles_ends_a_compile_that_hangs(number):
    work = f"with interrupt.noticed(lambda: False): hang({int(number)})"
    assert subprocess.run([sys.executable, "-c", HANG + work], timeout=60).returncode == 128 + number


IMPORTS = """
import os, sys
class Finder:
    def find_spec(name, *_):
        if name == "jax":
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder)
from seqjax.cli import main
sys.exit(main(["run", "--out", "run"]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_during_imports_has_its_exit_code_and_leaves_nothing(tmp_path, number, code):
    script = IMPORTS.format(number=int(number))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, list(tmp_path.iterdir())) == (code, [])
    assert done.stderr == f"seqjax: {'interrupted' if code == 130 else 'ended by ' + number.name}\n"


def test_a_compile_is_left_at_once_and_the_same_call_begins_anew(tmp_path, monkeypatch, chunks):
    """Nothing was trained, so that the handler outside of training is called, here that of Python."""
    with monkeypatch.context() as patch:
        compiled = loop.compiled_epoch
        stop = lambda *args: (os.kill(os.getpid(), signal.SIGINT), compiled.lower(*args))[1]
        patch.setattr(loop, "compiled_epoch", Lowers(compiled, stop))
        with pytest.raises(KeyboardInterrupt) as caught:
            experiment("gru, random").run(tmp_path / "run")
    assert str(caught.value) == ""
    assert chunks == []
    experiment("gru, random").run(tmp_path / "run")
    experiment("gru, random").run(tmp_path / "whole")
    assert results(tmp_path / "run") == results(tmp_path / "whole")


class Lowers:
    """A compiled function with another `lower`."""

    def __init__(self, compiled, lower):
        self.eval_shape, self.call, self.lower = compiled.eval_shape, compiled, lower

    def __call__(self, *args):
        return self.call(*args)


@pytest.fixture
def heard():
    """The numbers of the signals that reach the handlers outside of training."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    found = []
    before = {number: signal.signal(number, lambda number, _: found.append(number)) for number in numbers}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


def test_signals_of_others_reach_who_watched_them_before():
    """Such as the event loop of a notebook."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    other = signal.signal(signal.SIGWINCH, lambda *_: None)
    try:
        with noticed():
            signal.raise_signal(signal.SIGWINCH)
        assert os.read(reader, 9) == bytes([signal.SIGWINCH])
        assert signal.set_wakeup_fd(before) == writer
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGWINCH, other)
        os.close(reader)
        os.close(writer)


def _collect():
    with ending_at_signals():
        gc.collect()
        time.sleep(10)


def test_a_signal_whose_exception_python_ignores_is_raised_again():
    """As in a callback of the garbage collector, of which JAX has one."""
    ignored = []

    def in_the_callback(phase, info):
        if not ignored:
            ignored.append(phase)
            signal.raise_signal(signal.SIGTERM)

    gc.callbacks.append(in_the_callback)
    try:
        with pytest.raises(Ended) as caught:
            _collect()
    finally:
        gc.callbacks.remove(in_the_callback)
    assert ignored
    assert caught.value.exit_code == 143


def test_in_a_thread_nothing_is_installed():
    found = []

    def look():
        with noticed() as interrupted:
            found.extend([signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), interrupted()])

    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [*before, None]


def test_handlers_are_restored_after_an_error():
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with contextlib.suppress(ZeroDivisionError), noticed() as interrupted:
        assert interrupted() is None
        assert signal.getsignal(signal.SIGINT) != before[0]
        raise ZeroDivisionError
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


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


def test_a_folder_in_use_is_exit_5_with_the_process_and_the_machine(place, monkeypatch):
    """The folder is free when that process has ended, in whatever way."""
    hold = (
        "import sys; from seqjax.runs import folder\n"
        "with folder.lock(folder.Path('run')): print('mine', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", hold], cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "mine\n"
    monkeypatch.chdir(place)
    done = call("run", *FLAGS)
    assert done.returncode == 5, done.stderr
    for words in ("run is in use", f"process {owner.pid} on {socket.gethostname()}", "another folder"):
        assert words in done.stderr
    assert {file.name for file in (place / "run").iterdir()} == {".lock"}
    owner.kill()
    owner.communicate()
    with folder.lock(place / "run"):
        assert str(os.getpid()) in (place / "run" / ".lock").read_text()


def test_a_lock_is_released_and_can_be_taken_again(tmp_path):
    for _ in range(2):
        with (
            folder.lock(tmp_path),
            pytest.raises(Error, match=f"process {os.getpid()} on") as caught,
            folder.lock(tmp_path),
        ):
            pass
    assert caught.value.exit_code == 5


def test_a_file_system_without_locks_is_exit_6(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(folder.fcntl, "flock", refuse)
    with pytest.raises(Error, match="No locks available") as caught, folder.lock(tmp_path):
        pass
    assert caught.value.exit_code == 6


def test_a_finished_run_can_be_opened_while_another_process_has_the_folder(tmp_path, chunks):
    e = experiment("gru, random")
    e.run(tmp_path)
    with folder.lock(tmp_path):
        assert e.run(tmp_path).finished


def test_a_signal_that_is_ignored_stays_so():
    """Such as Ctrl-C in a background job, and signals that nohup blocks."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noticed() as interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            assert interrupted() is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_without_a_folder_prints_how_to_resume(place, monkeypatch, chunks, capfd, number, code):
    monkeypatch.chdir(place)
    monkeypatch.setattr(feed, "CHUNK_STEPS", 400)
    interrupt_after(monkeypatch, chunks, 2, number)
    with contextlib.suppress(SystemExit):
        assert cli.main(["run", *map(str, FLAGS[:-2])]) == code
    stderr = capfd.readouterr().err
    (line,) = (line for line in stderr.splitlines() if line.startswith("next"))
    words = shlex.split(line)
    assert words[1:] == ["seqjax", "run", *map(str, FLAGS[:-2]), "--out", "runs/text-file-rnn-1"]
    assert "saved in runs/text-file-rnn-1" in stderr
    assert cli.main(words[2:]) == 0
    assert Run.open("runs/text-file-rnn-1").finished
    assert len(list(place.glob("runs/*"))) == 1
