"""Words of commands that are printed for the user to paste."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterable


def quote(word: str) -> str:
    r"""A word as a shell reads it: as by `shlex.quote`; `$'...'` if it has control characters, such as `$'a\x0ab'`.

    bash, zsh, ksh and POSIX.1-2024 read this form. Each control character is written as the bytes of its UTF-8.
    """
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_in_dollar_quotes, word)) + "'"


def join(words: Iterable[str]) -> str:
    """Words as one command."""
    return " ".join(map(quote, words))


def argument(path: str | os.PathLike[str]) -> str:
    """A path as an argument of a command. One that begins with a dash would be read as a flag, and gets `./`."""
    path = os.fspath(path)
    return quote(f"./{path}" if path.startswith("-") else path)


def program() -> str:
    """What runs seqjax in the user's shell: `seqjax` if the PATH finds this one, else a path, or `python -m seqjax`."""
    # In a script, in a notebook and under `python -m`, the first argument is another file.
    is_own = sys.argv[0].endswith("/seqjax")
    own = sys.argv[0] if is_own else os.path.join(os.path.dirname(sys.executable), "seqjax")
    if not os.path.isfile(own):
        return f"{quote(sys.executable)} -m seqjax"
    found = shutil.which("seqjax")
    return "seqjax" if found and os.path.samefile(found, own) else argument(own)


def _in_dollar_quotes(character: str) -> str:
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    # A byte of a file's name that is not UTF-8 is a lone surrogate in Python.
    is_byte = "\udc80" <= character <= "\udcff"
    encoded = character.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in encoded)
