"""`main`: calls the module of a verb, and turns errors into exit codes."""

import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

from seqjax.errors import Error, nearest

VERBS = {
    "run": "train a model, and keep the run in a folder",
    "generate": "continue a text with a trained model",
    "evaluate": "compute loss and perplexity of a trained model",
    "sweep": "train many runs, one for every combination of some values",
    "status": "show how far the runs of a sweep are",
    "compare": "compare runs: median and range over seeds, paired differences",
    "track": "mirror runs for a viewer, such as TensorBoard",
    "lags": "split the gradient by how many steps back it travels, and print the bias of truncating it",
    "measure": "measure bias, variance, seconds and bytes of gradient strategies at a run's parameters",
    "check": "check that a plugin does what its kind asks",
    "new": "write a plugin to start from, as a file or as a package",
    "reproduce": "run experiments, and write their reports; with --page, to one page",
    "list": "list the available plugins",
    "show": "show what a plugin does and which parameters it has",
}

HELP = """usage: seqjax VERB [OPTIONS]

Train small sequence models, and choose how the gradient goes back through time.

verbs:
{verbs}

options:
  --help      show this text; seqjax VERB --help shows the help of a verb
  --version   show the version
  --debug     with any verb: show the traceback of an error"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code (0 done, 2 bad input, ...: see `seqjax.Error`)."""
    return guarded(_dispatch, sys.argv[1:] if argv is None else argv)


def guarded(work: Callable[[list[str]], int], argv: Sequence[str]) -> int:
    """Calls `work(argv)` and returns its exit code. For an `Error`, prints its message on stderr and returns its code.

    With `--debug`, which is removed from the arguments, the error is raised instead.
    """
    for stream in (sys.stdout, sys.stderr):  # a character that the terminal lacks is escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in argv
    argv = [arg for arg in argv if arg != "--debug"]
    try:
        return work(argv)
    except Error as fault:
        if debug:
            raise
        print(f"seqjax: {fault}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt as fault:
        with contextlib.suppress(OSError):  # stderr may have gone with the terminal
            print(f"seqjax: {str(fault) or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as fault:
        if debug or fault.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        print(f"seqjax: cannot write: {fault.strerror}; free some space", file=sys.stderr)
        return 6
    except Exception as fault:
        if debug or not (isinstance(fault, MemoryError) or "RESOURCE_EXHAUSTED" in str(fault)):
            raise
        print("seqjax: out of memory; --dry-run prints the bytes of a run: make it smaller", file=sys.stderr)
        return 6


def _dispatch(argv: list[str]) -> int:
    verb = argv[0] if argv else "--help"
    if verb in ("--help", "-h", "help"):
        print(HELP.format(verbs="\n".join(f"  {name:10} {text}" for name, text in VERBS.items())))
        return 0
    if verb == "--version":
        from seqjax import __version__

        print(__version__)
        return 0
    if verb not in VERBS:
        raise Error(f"no verb {verb!r}{nearest(verb, VERBS)}\nverbs: {', '.join(VERBS)}; see seqjax --help")
    return importlib.import_module(f"seqjax.cli.{verb}").main(argv[1:])
