"""`Parser`: reads the arguments of every verb."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from seqjax.errors import Error, closest
from seqjax.plugin import registry
from seqjax.plugin.other_names import field_meant


def whole(text: str) -> int:
    """The whole number that a flag was given: one that the arrays of a device can hold.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        number = int(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{text:.80} is no int") from fault
    if abs(number) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text:.80} is out of range; an int is below 2^31")
    return number


SEVERAL = ",..."
"""The end of the metavar of a flag that takes several values."""
NAMING = ("FILE", "DIR", "FOLDER", "RUN", "SWEEP", "KIND", "NAME", "VARIANT")
"""The metavars of arguments that must not be empty."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises an `Error` with the nearest flag. It reads `_` in a flag as `-`."""

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self.color = False  # Python 3.14 colours a help text by control characters, which would be escaped
        text = "run a Python file that registers plugins; may be repeated"
        self.add_argument("--load", action="append", default=[], metavar="FILE", help=text)

    def add_kind_and_name(self, text: str, **kwargs: Any) -> None:
        """Adds the kind of a plugin, which may be given in the plural, and its name; `text` describes the name."""
        kinds = f"one of {', '.join(registry.GROUPS)}"
        self.add_argument("kind", type=_singular, help=kinds, metavar="KIND", **kwargs)
        self.add_argument("name", help=text, metavar="NAME", **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises an `Error` instead of exiting."""
        raise Error(f"{message}\nsee {self.prog} --help")

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The parsed arguments, after running the files of `--load`. An error for an unknown one names the nearest."""
        args, unknown = self.parse_known_args([_dashes(arg) for arg in argv])
        if unknown:
            hint = self._second_value(argv, unknown[0]) or self.flag_meant(unknown[0], args)
            self.error(f"no such argument: {unknown[0]}{hint}")
        for action in self._actions:
            given = getattr(args, action.dest, None)
            if action.metavar in NAMING and (given == "" or (isinstance(given, list) and "" in given)):
                flag = "".join(f"{flag} " for flag in action.option_strings[-1:])
                self.error(f"{flag}'': an empty text is given as {action.metavar}")
        for path in args.load:
            registry.load_file(path)
        return args

    def flag_meant(self, unknown: str, known: argparse.Namespace) -> str:
        """A hint at the flag that was meant, such as --optimizer.learning-rate by --lr; else at the nearest one.

        Args:
            unknown: the argument that is not known.
            known: the values of the known arguments.
        """
        flags = {flag.removeprefix("--").replace("-", "_") for flag in self._option_string_actions}
        name = unknown.partition("=")[0].lstrip("-").replace("-", "_")
        if field := field_meant(name, flags):
            return self.flag_of(field, known)
        for kind in registry.GROUPS:
            if kind in flags and (entry := registry.meant(kind, name)):
                return f"; did you mean '--{kind} {entry.name}'?"
        near = closest(name, flags)
        return self.flag_of(near, known) if near else ""

    def flag_of(self, field: str, known: argparse.Namespace) -> str:
        """A hint at the flag of a field, with its values if these are few."""
        flag = f"--{field.replace('_', '-')}"
        action = self._option_string_actions.get(flag)
        values = f" {action.metavar}" if action and str(action.metavar).startswith("{") else ""
        return f"; did you mean '{flag}{values}'?"

    def _second_value(self, argv: Sequence[str], unknown: str) -> str:
        """How several values of a flag are written, if an argument follows the value of one; else nothing."""
        for flag, value, arg in zip(argv, argv[1:], argv[2:], strict=False):
            action = self._option_string_actions.get(_dashes(flag))
            is_value = not value.startswith("-") and not arg.startswith("-")
            if arg == unknown and is_value and action and str(action.metavar).endswith(SEVERAL):
                return f"; {several_values(flag, value, arg)}"
        return ""


def _singular(kind: str) -> str:
    """A kind of plugin that may be given in the plural, as in `list models`; anything else is returned unchanged."""
    return kind.removesuffix("s") if kind.removesuffix("s") in registry.GROUPS else kind


def several_values(flag: str, first: str, second: str) -> str:
    """How two values of a flag are written, which were given as two arguments."""
    both = f"{first.rstrip(',')},{second.lstrip(',')}"
    return f"several values of a flag are separated by commas, without spaces: {flag} {both}"


def _dashes(arg: str) -> str:
    """`--clip_norm=x` as `--clip-norm=x`."""
    match = re.match(r"--[^=]+", arg)
    return match[0].replace("_", "-") + arg[match.end() :] if match else arg
