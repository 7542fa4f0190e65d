"""`read_script`: what a report takes from its script, which is not run."""

import ast
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from seqjax.errors import Error


class ScriptFile(NamedTuple):
    """The words and the hash of a script.

    Args:
        title: the first line of the docstring without the command; the name of the file if there is no docstring.
        command: what follows the title after two or more spaces; "" if nothing does.
        text: the rest of the docstring.
        sha256: the hash of the lines of the file without the docstring, and of the command. What is written about the
            results after a run does not change it.
    """

    title: str
    command: str
    text: str
    sha256: str


def read_script(file: Path) -> ScriptFile:
    """Reads a script.

    Raises:
        Error: it cannot be read as Python.
    """
    try:
        source = file.read_bytes()
        module = ast.parse(source)
    except (OSError, SyntaxError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise Error(
            f"{file} cannot be read as Python: {reason}; a report is about a script: Report(__file__)"
        ) from fault
    docstring, lines = ast.get_docstring(module), source.splitlines()
    if docstring is not None:
        del lines[module.body[0].lineno - 1 : module.body[0].end_lineno]
    first, _, text = (docstring or "").partition("\n")
    title, *command = re.split(r"\s{2,}", first.strip() or file.stem, maxsplit=1)
    hashed = b"\n".join([*lines, "".join(command).encode()])
    return ScriptFile(title, "".join(command), text.strip(), hashlib.sha256(hashed).hexdigest())
