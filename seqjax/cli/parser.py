"""`Parser`: reads the arguments of every verb."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from seqjax.errors import Error, nearest
from seqjax.plugin import registry


class Parser(argparse.ArgumentParser):
    """An argument parser that raises an `Error` with the nearest flag. It reads `_` in a flag as `-`."""

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        text = "run a Python file that registers plugins; may be repeated"
        self.add_argument("--load", action="append", default=[], metavar="FILE", help=text)

    def error(self, message: str) -> NoReturn:
        """Raises an `Error` instead of exiting."""
        raise Error(f"{message}\nsee {self.prog} --help")

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The parsed arguments, after running the files of `--load`. An error for an unknown one names the nearest."""
        args, unknown = self.parse_known_args([_dashes(arg) for arg in argv])
        if unknown:
            hint = _second_value(argv, unknown[0]) or nearest(unknown[0], self._option_string_actions)
            self.error(f"no such argument: {unknown[0]}{hint}")
        for path in args.load:
            registry.load_file(path)
        return args


def _second_value(argv: Sequence[str], unknown: str) -> str:
    """How several values of a flag are written, if an argument follows the value of one; else nothing."""
    for flag, value, arg in zip(argv, argv[1:], argv[2:], strict=False):
        are_values = not value.startswith("-") and not arg.startswith("-")
        if arg == unknown and are_values and flag.startswith("--") and "=" not in flag:
            return f"; several values of a flag are separated by commas, such as {flag} {value},{arg}"
    return ""


def _dashes(arg: str) -> str:
    """`--clip_norm=x` as `--clip-norm=x`."""
    match = re.match(r"--[^=]+", arg)
    return match[0].replace("_", "-") + arg[match.end() :] if match else arg
