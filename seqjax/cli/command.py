"""`main`: calls the module of a verb, and turns errors into exit codes."""

import errno
import importlib
import io
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from seqjax.cli.unexpected import explained
from seqjax.errors import Error, nearest
from seqjax.signals import Ended, ending_at_signals
from seqjax.terminal.lasting import LastingStream, open_standard_files, say_that_printing_ends
from seqjax.terminal.shell import program
from seqjax.terminal.stream import escape_streams, line, unescaped

VERBS = {
    "run": "train a model, and keep the run in a folder",
    "generate": "continue a text with a trained model",
    "evaluate": "compute loss and perplexity of a trained model",
    "sweep": "train many runs, one for every combination of some values",
    "status": "show how far the runs of a sweep are",
    "compare": "compare runs: mean over seeds with its interval, paired differences",
    "verify": "check whether runs are still what they were: files, plugins, dataset, versions",
    "check": "check that a plugin does what its kind asks",
    "new": "write a plugin to start from, as a file or as a package",
    "list": "list the plugins, or show one: what it does, its parameters, how to cite it",
}

OTHER_VERBS = {
    "run": ("train", "fit", "start", "resume"),
    "generate": ("sample", "predict"),
    "evaluate": ("eval", "test", "validate"),
    "sweep": ("grid", "search", "tune"),
    "list": ("ls", "plugins", "show", "info"),
    "new": ("init", "create"),
}
"""Verb -> what other programs call it."""

COMPILING = ("run", "generate", "evaluate", "sweep", "check")
"""The verbs that compile programs, and keep them for the next time."""
TRAINING = ("run", "sweep")
"""The verbs whose results are in a folder, and which keep running when stdout fails."""
TEXTS = ("--help", "-h", "--print-config", "--dry-run")
"""The flags with which these verbs only print, and train nothing."""
NO_CACHE = "--no-compile-cache"

HELP = """usage: {seqjax} VERB [OPTIONS]

Train small sequence models, and choose how the gradient goes back through time.

begin with:
  {seqjax} run                                           train on text that comes with Python
  {seqjax} run --dataset text-file --dataset.path FILE   train on your own text
  {seqjax} list                                          list models, gradients and all other plugins

verbs:
{verbs}

options:
  --help      show this text; {seqjax} VERB --help shows the help of a verb
  --version   show the version
  --debug     with any verb: show the traceback of an error
  --no-compile-cache
              with any verb: use no programs that earlier commands compiled, and keep none"""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""The errors of the system about a disk that is full."""
FAILING = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.EMFILE, errno.ENFILE)
"""The errors of the system about a disk that fails, and about too many open files."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code (0 done, 2 bad input, ...: see `seqjax.Error`)."""
    argv = sys.argv[1:] if argv is None else argv
    trains = argv[:1] and argv[0] in TRAINING and not {*argv} & {*TEXTS}
    return guarded(_dispatch, argv, prints_result=not trains)


def guarded(work: Callable[[list[str]], int], argv: Sequence[str], prints_result: bool = False) -> int:
    """Calls `work(argv)` and returns its exit code. For an `Error`, prints its message on stderr and returns its code.

    From the call on, all that this process prints is escaped, and dropped if it cannot be written; a warning for users
    is printed as a note, without the line of the program that it is about.

    Args:
        work: takes the arguments, and returns an exit code.
        argv: the arguments. With `--debug`, which is removed from them, an error is raised instead.
        prints_result: whether the result is what `work` prints. If so, and stdout cannot be written, the exit code is
            6, unless its reader has gone, such as `head`. If not, stderr says that stdout cannot be written.
    """
    stdout = _prepare_streams()
    stdout.note = (lambda reason: None) if prints_result else say_that_printing_ends
    warnings.showwarning = _show_warning
    debug = "--debug" in argv
    try:
        with ending_at_signals() as interrupted:
            code = _exit_code(work, [arg for arg in argv if arg != "--debug"], debug, interrupted)
            stdout.flush()
    except KeyboardInterrupt as fault:
        print(f"seqjax: {str(fault) or 'interrupted'}", file=sys.stderr)
        return getattr(fault, "exit_code", 128 + signal.SIGINT)
    if code == 0 and prints_result and stdout.fault and not stdout.is_unread:
        print(f"seqjax: cannot write to stdout: {stdout.fault.strerror}", file=sys.stderr)
        return 6
    return code


def _exit_code(
    work: Callable[[list[str]], int], argv: list[str], debug: bool, interrupted: Callable[[], Ended | None]
) -> int:
    """Calls `work(argv)`. Returns its exit code, or the exit code of the exception that it raises."""
    try:
        return work(argv)
    except Error as fault:
        if debug:
            raise
        print(f"seqjax: {fault}", file=sys.stderr)
        return fault.exit_code
    except Exception as fault:
        if ended := interrupted():  # XLA turns what a signal raises in a callback into an error of its own
            raise ended from fault
        what = _what_is_full(fault)
        if debug or what is None:
            raise
        print(f"seqjax: {what}", file=sys.stderr)
        return 6


def _what_is_full(fault: Exception) -> str | None:
    """The message of an exception that says that the disk or the memory is full or fails; None for any other."""
    if isinstance(fault, OSError) and fault.errno in FULL:
        return f"cannot write: {fault.strerror}; free some space"
    if isinstance(fault, OSError) and fault.errno in FAILING:
        return f"{fault.filename or 'a file'}: {fault.strerror}; the same command goes on when this is mended"
    if isinstance(fault, MemoryError) or "RESOURCE_EXHAUSTED" in str(fault):
        return "out of memory; --dry-run prints the bytes of a run: make it smaller"
    return None


def _prepare_streams() -> LastingStream:
    """Makes stdout and stderr of this process escape, and drop what cannot be written. Returns the new stdout."""
    open_standard_files()
    for name in ("stdout", "stderr"):
        stream = unescaped(getattr(sys, name))
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal lacks is escaped
            stream.reconfigure(errors="backslashreplace")
        if not isinstance(stream, LastingStream):
            setattr(sys, name, LastingStream(stream))
    escape_streams()
    return unescaped(sys.stdout)


def _show_warning(message: Any, category: type, *where: Any, **more: Any) -> None:
    """Prints a warning as Python's own function does, or as a note if it is for users."""
    if category is UserWarning:
        line("note", message, sys.stderr)
    else:
        print(warnings.formatwarning(message, category, *where[:2]), end="", file=sys.stderr)


def _dispatch(argv: list[str]) -> int:
    verb = argv[0] if argv else "--help"
    if verb in ("--help", "-h", "help"):
        print(HELP.format(seqjax=program(), verbs="\n".join(f"  {name:10} {text}" for name, text in VERBS.items())))
        return 0
    if verb == "--version":
        from seqjax import __version__

        print(__version__)
        return 0
    if verb not in VERBS:
        other = next((known for known, others in OTHER_VERBS.items() if verb in others), None)
        hint = f"; did you mean {other!r}?" if other else nearest(verb, VERBS)
        raise Error(f"no verb {verb!r}{hint}\nverbs: {', '.join(VERBS)}; see {program()} --help")
    if verb in COMPILING:
        from seqjax.cli.flags import check_num_devices, check_xla_flags

        check_num_devices()
        check_xla_flags()
    if verb in COMPILING and NO_CACHE not in argv:
        from seqjax.training.compile_cache import keep_programs

        keep_programs()
    argv = [arg for arg in argv if arg != NO_CACHE]
    with explained():
        return _verb_main(verb)(argv[1:])


def _verb_main(verb: str) -> Callable[[Sequence[str]], int]:
    return importlib.import_module(f"seqjax.cli.{verb}").main
