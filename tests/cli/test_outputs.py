"""Outputs that cannot be written: a reader that has gone, a closed stdout, a full device."""

import contextlib
import io
import os
import signal
import subprocess
import sys

import pytest
from support.crash import NoFigure, results
from support.shell import SEQJAX
from support.small_run import EXPERIMENT, NGRAM, TEXT
from support.tiny import TINY, small_chunks

from seqjax import Run, sweep
from seqjax.cli.command import guarded, main
from seqjax.terminal.lasting import LastingStream
from seqjax.terminal.stream import unescaped

NOTE = "nothing more is printed, and the work goes on"
GONE = {
    "reader": "| head -n 1",
    "closed": ">&-",
    "full": "> /dev/full",
    "both": ">&- 2>&-",
    "reader of both": "2>&1 | head -n 1",
}


def shell(place, words, ending):
    """Runs `seqjax WORDS ENDING` in bash, and returns its exit code, stdout and stderr."""
    script = f'{SEQJAX} {words} {ending}\nexit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script], cwd=place, capture_output=True, text=True, timeout=240)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


FULL = "seqjax: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "ending", "code", "said"),
    [("list", "reader", 0, ""), ("list gradient", "both", 0, ""), ("list", "full", 6, FULL)],
)
def test_a_text_that_nobody_reads_is_no_error_and_one_that_a_full_device_loses_is_exit_6(
    tmp_path, words, ending, code, said
):
    done = shell(tmp_path, words, GONE[ending])
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize(
    "argv", [["--help"], ["run", "--help"], ["run", "--print-config"], ["sweep", *NGRAM, "--seeds", "0", "--dry-run"]]
)
def test_the_text_of_a_verb_that_trains_is_a_result_too(run_, argv):
    with streams(Fails(28, 0)) as stderr:
        assert main(list(map(str, argv))) == 6
    assert stderr.getvalue() == FULL


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    (place / "text.txt").write_text(TEXT, encoding="utf-8")
    assert shell(place, f"run {' '.join(map(str, EXPERIMENT))} --out run", "").returncode == 0
    return results(place / "run")


@pytest.mark.slow
@pytest.mark.parametrize("ending", GONE)
def test_training_goes_on_to_its_end(tmp_path, whole, ending):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    done = shell(tmp_path, f"run {' '.join(map(str, EXPERIMENT))} --out run", GONE[ending])
    assert done.returncode == 0
    assert done.stderr.count(NOTE) == ("both" not in ending)
    assert results(tmp_path / "run") == whole


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["reader", "full"])
def test_all_runs_of_a_sweep_are_trained(tmp_path, ending):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    words = f"sweep {' '.join(map(str, EXPERIMENT))} --seeds 0,1 --launcher local --out out"
    done = shell(tmp_path, words, GONE[ending])
    assert done.returncode == 0
    assert done.stderr.count(NOTE) == 1
    assert len(list(tmp_path.glob("out/seed-*/params.safetensors"))) == 2


class Fails(io.StringIO):
    """A stream that cannot be written from its n-th text on."""

    def __init__(self, number, n=1):
        super().__init__()
        self.number, self.n = number, n

    def write(self, text):
        self.n -= 1
        if self.n < 0:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


def test_in_python_progress_that_cannot_be_printed_ends_no_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Run, "plot", NoFigure)
    with small_chunks():
        TINY.run(tmp_path / "whole")
        monkeypatch.setattr(sys, "stdout", Fails(28, 2))
        TINY.run(tmp_path / "run", progress=True)
        TINY.run(tmp_path / "run", progress=True)  # it says that it is finished
        runs = sweep(TINY, {"seed": [0]}, tmp_path / "sweep", progress=True)
    assert capsys.readouterr().err.count(NOTE) == 1
    assert results(tmp_path / "run") == results(runs["seed=0"].path) == results(tmp_path / "whole")
    assert sys.stdout.getvalue().startswith("device ")


@contextlib.contextmanager
def streams(stdout):
    """Other streams for the command, which it wraps. The context variable is what it prints on stderr."""
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(io.StringIO()) as stderr:
        yield stderr


@pytest.mark.parametrize("prints_result", [True, False])
def test_an_exit_code_other_than_0_stays(prints_result):
    with streams(Fails(28)) as stderr:
        assert guarded(lambda argv: (print("text"), 3)[1], [], prints_result) == 3
    assert stderr.getvalue().count(NOTE) == (not prints_result)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_the_exit_code_also_if_a_library_turns_it_into_an_error(number, code):
    before = signal.getsignal(number)

    def turned(argv):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise RuntimeError("CpuCallback error") from None

    with streams(io.StringIO()) as stderr:
        assert guarded(lambda argv: signal.raise_signal(number), []) == code
        assert guarded(turned, []) == code
    assert stderr.getvalue() == f"seqjax: {'interrupted' if code == 130 else f'ended by {number.name}'}\n" * 2
    assert signal.getsignal(number) == before


def test_streams_are_wrapped_once():
    stdout = io.StringIO()
    with streams(stdout):
        for _ in range(2):
            assert guarded(lambda argv: 0, []) == 0
            assert type(unescaped(sys.stdout)) is LastingStream
            assert unescaped(sys.stdout).stream is stdout


def test_the_command_answers_signals_until_the_process_has_ended():
    """Also while other libraries clean up at the exit of Python."""
    script = (
        "import atexit, os, signal, sys\n"
        "atexit.register(lambda: (print('end', flush=True), os.kill(os.getpid(), signal.SIGTERM)))\n"
        "from seqjax.cli import main\nsys.exit(main(['--version']))"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (143, "end")
