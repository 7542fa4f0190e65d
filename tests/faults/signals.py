"""Signals at each moment of a command, readers that go away, and what is lost by them.

Each case is a process of its own, which is forked after jax is imported and before it has started its threads. It sends
itself a signal at a named function. Then the same command is typed again, and has to end with the bits of a command
without a signal.
"""

import ctypes
import functools
import importlib
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from support.crash import NoFigure, results

from faults.children import outcomes
from faults.kinds import RNN, TEXT
from faults.part import Part, part
from seqjax import cli
from seqjax.report import plot
from seqjax.runs import Run
from seqjax.training import feed, loop

FLAGS = [*(word.replace("DATA/", "") for word in RNN[1:]), "--checkpoint-seconds", "1e9", "--out", "out"]
"""Two epochs of five chunks, with a checkpoint only at a signal and at the end."""
SWEEP = ("--seeds", "0,1", "--launcher", "none")
SECONDS = 120
"""Time after which a process counts as one that hangs."""

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STEP = "jax:device_get"
MOMENTS = {
    "prepare": ("seqjax.runs.experiment:ExperimentFields.prepare", 1),
    "begin": ("seqjax.runs.carry_out:locked_folder", 1),
    "compile the parameters": ("jax.stages:Lowered.compile", 1),
    "compile the epoch": ("jax.stages:Lowered.compile", 2),
    "first step": (STEP, 1),
    "later step": (STEP, 7),
    "evaluate": ("seqjax.runs.run:Run.evaluate_stream", 1),
    "save": ("seqjax.runs.files.store:save_checkpoint", 1),
    "in a save": ("seqjax.runs.files.store:_list", 1),
    "finish": ("seqjax.runs.listen:Training.end", 1),
    "in the finish": ("seqjax.runs.saving:result_files", 1),
    "after it": ("seqjax.cli.run:_say_what_next", 1),
}
"""Name -> a function, and the number of its call at which the signal arrives."""
QUICK = ("SIGHUP, later step", "SIGTERM, a compile that hangs", "run, a reader of stdout that goes away")
"""The cases that are tried with the other tests."""


class Case(NamedTuple):
    """A command that is disturbed.

    Args:
        name: what happens to it.
        code: the exit code that it must have.
        disturb: is called in its process before the command.
        may_lose: whether chunks since the last checkpoint may be lost.
        verb: the verb.
        flags: its other arguments.
    """

    name: str
    code: int
    disturb: Callable[[], Any]
    may_lose: bool = False
    verb: str = "run"
    flags: tuple[str, ...] = ()


def nothing(*_: Any) -> None:
    """Disturbs nothing, and plants nothing."""


def parts(quick: bool) -> Iterator[Part]:
    """The rows of the table."""
    for what, make in GROUPS.items():
        yield part(what, list(tried(case for case in make() if not quick or case.name in QUICK)))


def quick_parts() -> list[Part]:
    """The rows of a few cases."""
    return list(parts(True))


def problems(names: Sequence[str], plant: Callable[[str], Any] = nothing) -> list[str | None]:
    """What does not hold in the cases of these names, in each of which a fault is planted."""
    cases = itertools.chain.from_iterable(make() for make in GROUPS.values())
    return list(tried([case for case in cases if case.name in names], plant))


def at_moments() -> Iterator[Case]:
    """One signal at each moment, and the same one twice during a step."""
    for moment, number in itertools.product(MOMENTS, (*NUMBERS, signal.SIGUSR1)):
        code = 128 + number
        if number == signal.SIGUSR1:  # before training it is an error, and after it nothing is lost
            code = {"prepare": 2, "begin": 2, "compile the parameters": 2, "after it": 0}.get(moment, code)
        yield Case(f"{number.name}, {moment}", code, at(*MOMENTS[moment], send(number)))
    for number in NUMBERS:
        twice = at(STEP, 7, lambda number=number: (send(number)(), time.sleep(1), send(number)(), hang()))
        yield Case(f"{number.name} twice, later step", 128 + number, twice, may_lose=True)
    ignored = lambda: (signal.signal(signal.SIGHUP, signal.SIG_IGN), at(STEP, 7, send(signal.SIGHUP))())
    yield Case("SIGHUP that nohup ignores", 0, ignored)


def hanging() -> Iterator[Case]:
    """A signal while the main thread never returns from C."""
    for number in NUMBERS:
        first = at("jax.stages:Lowered.compile", 2, lambda number=number: (later(number, 0.2), hang()))
        yield Case(f"{number.name}, a compile that hangs", 128 + number, first)
        both = lambda number=number: (later(number, 0.2), later(number, 0.7), hang())
        yield Case(f"{number.name} twice, a step that hangs", 128 + number, at(STEP, 7, both), may_lose=True)


def unread() -> Iterator[Case]:
    """Outputs that cannot be written: training goes on to its end."""
    ways = {
        "a reader of stdout that goes away": lambda: redirect(closed_pipe(), 1),
        "a closed stdout": lambda: os.close(1),
        "stdout on a full device": lambda: redirect(os.open("/dev/full", os.O_WRONLY), 1),
        "a reader of both that goes away": lambda: redirect(closed_pipe(), 1, 2),
        "both closed": lambda: os.closerange(1, 3),
        "stdin, stdout and stderr closed": lambda: os.closerange(0, 3),
    }
    for what, disturb in ways.items():
        yield Case(f"run, {what}", 0, disturb)
        yield Case(f"sweep, {what}", 0, disturb, verb="sweep", flags=SWEEP)


GROUPS: dict[str, Callable[[], Iterator[Case]]] = {
    "signals at a moment, then resumed": at_moments,
    "signals while C code hangs, then resumed": hanging,
    "stdout or stderr that cannot be written": unread,
}


def tried(cases: Iterable[Case], plant: Callable[[str], Any] = nothing) -> Iterator[str | None]:
    """What does not hold in each case; None if all does.

    Args:
        cases: the cases.
        plant: is called with the name of each case, in its process before the command: it plants a fault.
    """
    cases = list(cases)
    wholes = {case.verb: Case("", 0, nothing, verb=case.verb, flags=case.flags) for case in cases}
    with tempfile.TemporaryDirectory() as name:
        places = {case: make_place(Path(name, f"{n}")) for n, case in enumerate([*cases, *wholes.values()])}

        works = ((case, places[case], functools.partial(carry_out, case, plant)) for case in cases)
        first = dict(outcomes(works, SECONDS))
        works = ((case, places[case], functools.partial(carry_out, case._replace(disturb=nothing))) for case in places)
        again = dict(outcomes(works, SECONDS))
        for case in cases:
            whole = places[wholes[case.verb]]
            yield judge(case, places[case], first[case], again[case], all_results(whole), chunks(whole))


def judge(case: Case, place: Path, outcome: Any, again: Any, whole: Any, count: int) -> str | None:
    """What does not hold in a case after both commands; None if all does."""
    said = outcome.out + outcome.err
    if outcome.code != case.code:
        return f"{case.name}: exit code {outcome.code} in place of {case.code}: {said[-400:]}"
    if "Traceback" in said or "Exception ignored" in said:
        return f"{case.name}: {said[-400:]}"
    if again.code != 0:
        return f"{case.name}: resumed, exit code {again.code}: {(again.out + again.err)[-400:]}"
    if all_results(place) != whole:
        return f"{case.name}: resumed, other bits"
    if (lost := chunks(place) - count) and not case.may_lose:
        return f"{case.name}: {lost} chunks were lost, and trained twice"
    if parts_left := list(place.rglob("*.part")):
        return f"{case.name}: {parts_left[0]} is left"
    return None


def make_place(path: Path) -> Path:
    """A folder with a text."""
    path.mkdir()
    (path / "text.txt").write_text(TEXT)
    (path / "chunks").touch()
    return path


def all_results(place: Path) -> list[Any]:
    """The results of the run, or of the runs of the sweep."""
    return [results(file.parent) for file in sorted(place.glob("out/**/params.safetensors"))]


def chunks(place: Path) -> int:
    """The number of chunks that were trained in a folder."""
    return (place / "chunks").stat().st_size


def carry_out(case: Case, plant: Callable[[str], Any] = nothing) -> int:
    """The exit code of a command in this process, which is disturbed."""
    handle_by_default()
    feed.CHUNK_STEPS = 40
    plot.history, Run.samples = NoFigure, {}  # which take longer than the training here
    real = loop.timed_call

    def counted(*args):
        result = real(*args)
        with Path("chunks").open("ab") as counts:
            counts.write(b".")
        return result

    loop.timed_call = counted
    plant(case.name)
    case.disturb()
    sys.stdout, sys.stderr = (open_stream(number) for number in (1, 2))
    return cli.main([case.verb, *FLAGS, *case.flags])


def open_stream(number: int) -> Any:
    """A stream as Python opens it at its start; None if it is closed."""
    try:
        os.fstat(number)
    except OSError:
        return None
    return open(number, "w", encoding="utf-8", closefd=False)


def at(where: str, n: int, do: Callable[[], Any]) -> Callable[[], None]:
    """What makes a function call `do` before its n-th call."""

    def set_up():
        module, _, path = where.partition(":")
        *outer, name = path.split(".")
        owner = functools.reduce(getattr, outer, importlib.import_module(module))
        real, count = getattr(owner, name), itertools.count(1)

        @functools.wraps(real)
        def replacement(*args, **kwargs):
            if next(count) == n:
                do()
            return real(*args, **kwargs)

        setattr(owner, name, replacement)

    return set_up


def send(number: int) -> Callable[[], None]:
    """What sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


def later(number: int, seconds: float) -> None:
    """Sends this process a signal after some time."""
    timer = threading.Timer(seconds, send(number))
    timer.daemon = True
    timer.start()


def hang() -> None:
    """Waits in C forever, as a compiler may: without the lock of Python, and through all signals."""
    mutex = ctypes.create_string_buffer(64)  # a mutex of pthread is initialized to zeros
    lock = ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)


def redirect(file: int, *numbers: int) -> None:
    """Makes a file the one that these numbers stand for."""
    for number in numbers:
        os.dup2(file, number)


def closed_pipe() -> int:
    """The end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def handle_by_default() -> None:
    """Handles signals as in a new terminal: `nohup` ignores SIGHUP, and shells ignore SIGINT in the background."""
    for number in NUMBERS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
