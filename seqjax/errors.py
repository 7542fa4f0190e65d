"""The one exception type, and what finds faults. Imports nothing of ours, so that every other module may import it."""

import difflib
import numbers
from collections.abc import Iterable
from typing import Any


class Error(ValueError):
    """A failure that the user can mend: says what is wrong, where, what is safe and what to type next.

    Args:
        message: one line, or several. With `problems`, the headline over them.
        problems: the separate faults, where several are reported at once.
        exit_code: what a command line ends with: 2 bad input, configuration or plugin; 3 diverged; 4 integrity; 5 run
            directory in use; 6 disk, memory or permission.
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


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, of Python's or numpy's; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_whole(**values: tuple[Any, int]) -> None:
    """Checks that arguments are whole numbers, and large enough: `check_whole(lags=(lags, 1), seed=(seed, 0))`.

    Args:
        values: for each argument its value and the least value that is allowed.

    Raises:
        Error: a value that is not a whole number or is too small; all of them are named.
    """
    problems = [
        f"{name} = {value!r} must be a whole number, at least {least}"
        for name, (value, least) in values.items()
        if not is_whole(value) or value < least
    ]
    if problems:
        raise Error("\n".join(problems))


def escape(text: str, keep: str = "") -> str:
    """The text with control characters written out, so that they do nothing to a terminal."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
