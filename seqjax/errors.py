"""`Error` and checks of arguments. Imports no other module of seqjax, so that every module may import it."""

import difflib
import numbers
from collections.abc import Iterable
from typing import Any


class Error(ValueError):
    """An error that the user can fix. The message says what is wrong, where, what is safe and what to type next.

    Args:
        message: one or more lines. With `problems`, the line above them.
        problems: the separate faults, if several are reported at once.
        exit_code: the exit code of a command: 2 bad input, config or plugin; 3 training diverged; 4 a damaged or
            changed file; 5 the folder is in use; 6 disk full, out of memory or no permission; 7 another process
            of the run has ended.
    """

    def __init__(self, message: str, *, problems: Iterable[str] = (), exit_code: int = 2):
        self.message = message
        self.problems = tuple(problems)
        self.exit_code = exit_code
        super().__init__("\n  ".join([message, *(problem.replace("\n", "\n    ") for problem in self.problems)]))


def nearest(word: str, choices: Iterable[str]) -> str:
    """`'; did you mean "x"?'` for the choices closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, sorted(choices), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def dtype_shape(array: Any) -> str:
    """The dtype and shape of an array as an error shows them, such as `float32[3, 4]`; the type of anything else."""
    return f"{array.dtype}{list(array.shape)}" if hasattr(array, "dtype") else type(array).__name__


def check_all(what: str, is_true: dict[str, bool]) -> None:
    """Checks several statements about arguments.

    Args:
        what: the line above the faults, such as "measure:".
        is_true: text -> whether it is true. The text says what must hold.

    Raises:
        Error: some statements are false; the message has their texts.
    """
    problems = [text for text, good in is_true.items() if not good]
    if problems:
        raise Error(what, problems=problems)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number of Python or numpy; booleans are excluded."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_whole(**values: tuple[Any, int]) -> None:
    """Checks that arguments are whole numbers, and large enough: `check_whole(lags=(lags, 1), seed=(seed, 0))`.

    Args:
        values: for each argument its value and the least value that is allowed.

    Raises:
        Error: some values are not whole numbers or are too small; the message names all of them.
    """
    problems = [
        f"{name} = {value!r} must be a whole number, at least {least}"
        for name, (value, least) in values.items()
        if not is_whole(value) or value < least
    ]
    if problems:
        raise Error("\n".join(problems))


def escape(text: str, keep: str = "") -> str:
    """The text with control characters escaped, except those in `keep`, so that a terminal does not interpret them."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
