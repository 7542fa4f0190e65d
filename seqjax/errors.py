"""`Error`, `warn`, checks of arguments, `escape`. Imports no module of seqjax, so that every module may import it."""

import difflib
import numbers
import os
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

LINES = "\n\t"
"""The control characters that are kept in a text of several lines."""


class Error(ValueError):
    """An error that the user can fix. The message says what is wrong, where, what is safe and what to type next.

    Its text is escaped, since Python itself prints it if nothing catches it; `message` and `problems` are not.

    >>> import seqjax as sj
    >>> try:
    ...     sj.create("optimizer", "adam", learning_rate=-1.0, clip_norm=0.0)
    ... except sj.Error as error:
    ...     print(error)
    optimizer 'adam' cannot be made:
      learning_rate = -1.0: must be float > 0
      clip_norm = 0.0: must be float > 0 or none

    Args:
        message: one or more lines. With `problems`, the line above them.
        problems: the separate faults, if several are reported at once.
        exit_code: the exit code of a command: 2 bad input, config or plugin; 3 training diverged; 4 a damaged or
            changed file; 5 the folder is in use; 6 disk full, out of memory or no
            permission; 7 another process of the run has ended. A command that signal n ends has the exit code 128 + n.
    """

    def __init__(self, message: str, *, problems: Iterable[str] = (), exit_code: int = 2):
        self.message = message
        self.problems = tuple(problems)
        self.exit_code = exit_code
        text = "\n  ".join([message, *(problem.replace("\n", "\n    ") for problem in self.problems)])
        super().__init__(escape(text, LINES))


def warn(message: str) -> None:
    """Warns about an argument that is allowed but probably a mistake. The warning names the line of the caller.

    That is the innermost line outside of seqjax.
    """
    own = os.path.dirname(__file__) + os.sep
    warnings.warn(escape(message, LINES), UserWarning, skip_file_prefixes=(own,))


def closest(word: object, choices: Iterable[str]) -> str | None:
    """The choice closest to `word`, or the only one that is the same but for case, or begins with it; else None."""
    word, choices = str(word), sorted(set(choices))
    alike = [choice for choice in choices if choice.lower() == word.lower()]
    if len(alike) == 1:
        return alike[0]
    begun = [choice for choice in choices if len(word) > 2 and choice.startswith(word)]
    close = begun if len(begun) == 1 else difflib.get_close_matches(word, choices, n=1, cutoff=0.66)
    return close[0] if close else None


def nearest(word: object, choices: Iterable[str]) -> str:
    """`'; did you mean "x"?'` for the choice closest to `word`, or an empty string if none is close."""
    close = closest(word, choices)
    return f"; did you mean {close!r}?" if close else ""


def quoted(names: Iterable[str], most: int = 12) -> str:
    """Names as a list that can be read although a name may contain commas: each in quotes, and at most `most` of them.

    `'full, seed=0', 'full, seed=1' and 58 more`
    """
    return few(map(repr, names), most)


def few(words: Iterable[str], most: int = 12) -> str:
    """Words as a list, of which at most `most` are shown: `a, b, c and 17 more`."""
    words = list(words)
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def counted(count: int, noun: str) -> str:
    """A number and what is counted, such as `3 seeds`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


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


def check_type(name: str, value: Any, kind: Any, expected: str) -> None:
    """Checks the type of an argument.

    Args:
        name: the name of the argument, such as "sweep: axes".
        value: its value.
        kind: the type that it must have, or a union of types.
        expected: what to pass, in words.

    Raises:
        Error: it has another type.
    """
    if not isinstance(value, kind):
        raise Error(f"{name} = {value!r:.80}: pass {expected}")


def check_flags(**values: Any) -> None:
    """Checks that arguments are True or False: `check_flags(batched=batched)`. Else a text such as "no" would be true.

    Raises:
        Error: a value is neither.
    """
    for name, value in values.items():
        check_type(name, value, bool, "True or False")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number of Python or numpy; booleans are excluded."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_whole(*, below_2_to: int | None = None, **values: tuple[Any, int]) -> None:
    """Checks that arguments are whole numbers, and large enough: `check_whole(lags=(lags, 1), seed=(seed, 0))`.

    Args:
        below_2_to: the number of bits of the largest values that are allowed; None: there is no largest value.
        values: for each argument its value and the least value that is allowed.

    Raises:
        Error: some values are not whole numbers, or are too small or too large; the message names all of them.
    """
    bound = "" if below_2_to is None else f", and below 2^{below_2_to}"
    problems = [
        f"{name} = {value!r:.80} must be a whole number, at least {least}{bound}"
        for name, (value, least) in values.items()
        if not is_whole(value) or value < least or (below_2_to is not None and value >= 2**below_2_to)
    ]
    if problems:
        raise Error("\n".join(problems))


def escape(text: str, keep: str = "") -> str:
    r"""The text with each character that is not printable as an escape of Python, such as `\x1b`.

    `str.isprintable` decides. Not printable are all control characters (C0, DEL, C1); what is invisible or reorders a
    line, such as U+200B, U+202A to U+202E and U+2066 to U+2069; the separators U+2028 and U+2029; lone surrogates; what
    Unicode has not assigned. A terminal interprets none of the other characters. Spaces of all widths, and the joiners
    U+200C and U+200D of Persian words and of emoji, stay too, since texts of many languages have them.

    Args:
        text: any text.
        keep: characters that stay as they are, such as `LINES`.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) or c in keep else c.encode("unicode_escape").decode() for c in text)


def _is_shown(character: str) -> bool:
    is_space = unicodedata.category(character) == "Zs"
    return character.isprintable() or is_space or character in "\u200c\u200d"
