"""`script`: runs a function as a command whose flags are its options."""

import argparse
import dataclasses
import inspect
import re
import sys
import time
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from seqjax.cli.command import guarded
from seqjax.cli.parser import Parser
from seqjax.errors import Error
from seqjax.files import disk_errors
from seqjax.plugin import config
from seqjax.plugin.base import Plugin, fields_of, make, members
from seqjax.report.report import Report
from seqjax.terminal.show import show
from seqjax.terminal.stream import line, say

ARGUMENT = re.compile(r"    (\w+): (.*)")
"""The first line about an argument in a docstring."""
OUT = "out"
OWN = (OUT, "help", "load", "debug")
"""Flags that every script has."""


def script(main: Callable[..., Any]) -> None:
    """Runs `main` with the flags of the command line as its options. A script ends with this call.

    `epochs: int = 5` makes the flag `--epochs`. The options are checked as the fields of a plugin are, so that
    `Annotated[int, Interval(ge=1)]` is a range. An option becomes a flag if its type is bool, int, float, str, a
    Literal, or a tuple or union of these. The flag of a tuple may be typed more than once, and its values add up. An
    option of another type keeps its default. The option `out: str | None = None` gets the folder of `--out`, for a
    script that looks at this folder before it works. The section "Args:" of its docstring is part of the text of
    `--help`.

    >>> import sys
    >>> import seqjax as sj
    >>> def main(seeds: int = 3) -> str:
    ...     return f"{seeds} seeds"
    >>> sys.argv = ["question.py", "--seeds", "5"]  # python question.py --seeds 5
    >>> sj.script(main)
    5 seeds

    Args:
        main: the function. A `Report` that it returns is printed and saved; anything else but None is printed.

    Raises:
        SystemExit: `main` failed; its code is the `exit_code` of the error, whose message is on stderr.
    """
    code = guarded(lambda argv: _run(main, argv), sys.argv[1:])
    if code:
        sys.exit(code)


def _run(main: Callable[..., Any], argv: Sequence[str]) -> int:
    module, options = sys.modules[main.__module__], _options(main)
    name = Path(getattr(module, "__file__", "script")).stem
    parser = Parser(prog=f"python {sys.argv[0]}", description=module.__doc__)
    described = _described(main)
    for field in fields_of(options).values():
        default = "required" if field.required else f"default {_text(field.default) or 'none'}"
        meaning = f"{described[field.name]} " if field.name in described else ""
        # argparse formats help texts with "%".
        words = f"{meaning}({field.type}; {default})".replace("%", "%%")
        # `--keep` alone is `--keep true`. `--also a --also b` is `--also a,b`.
        kwargs: dict[str, Any] = {"nargs": "?", "const": "true"} if bool in members(field.hint) else {}
        if any(typing.get_origin(option) is tuple for option in members(field.hint)):
            kwargs["action"] = _Joined
        parser.add_argument(f"--{field.name.replace('_', '-')}", dest=field.name, metavar="X", help=words, **kwargs)
    parser.add_argument("--out", metavar="DIR", help=f"folder of the report; default reports/{name}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.read(argv)
    strings = {name: text for name in fields_of(options) if (text := getattr(args, name)) is not None}
    try:
        values = vars(make(options, config.parse_fields(options, strings)))
    except Error as fault:
        raise Error(f"{parser.prog} cannot run:", problems=fault.problems) from fault
    # A folder that cannot be written is an error before the work starts.
    if args.out is not None:
        with disk_errors(Path(args.out)):
            Path(args.out).mkdir(parents=True, exist_ok=True)
    if OUT in inspect.signature(main).parameters:
        values = values | {OUT: args.out}
    began = time.monotonic()
    result = main(**values)
    seconds = time.monotonic() - began
    if isinstance(result, Report):
        result.seconds = seconds
        show(result)
        say("")
        folder = result.save(args.out)
        line("saved", folder)
    elif result is not None:
        print(result)
    return 0


def _options(main: Callable[..., Any]) -> type:
    """A plugin class whose fields are the options of `main` that can be flags, so that they are checked like fields."""
    hints, fields = typing.get_type_hints(main, include_extras=True), []
    for name, option in inspect.signature(main).parameters.items():
        if name == OUT and hints.get(name) == (str | None):
            continue
        required = option.default is option.empty
        hint = hints.get(name, type(option.default))
        if not _can_be_flag(hint):
            if required:
                raise Error(f"main({name}): {hint!r:.80} cannot be a flag; give the option a default")
        elif name in OWN:
            raise Error(f"main({name}): --{name} is a flag of every script; give the option another name")
        else:
            fields.append((name, hint) if required else (name, hint, dataclasses.field(default=option.default)))
    return dataclasses.make_dataclass("Options", fields, bases=(Plugin,), frozen=True, kw_only=True)


def _described(main: Callable[..., Any]) -> dict[str, str]:
    """Option -> what the section "Args:" of the docstring says of it."""
    found, name = {}, ""
    _, _, section = (inspect.getdoc(main) or "").partition("Args:\n")
    for text in section.split("\n\n")[0].splitlines():
        if (match := ARGUMENT.fullmatch(text)) is not None:
            name, found[match[1]] = match[1], match[2]
        elif name:
            found[name] += f" {text.strip()}"
    return found


class _Joined(argparse.Action):
    """Adds the values of a flag that is typed more than once to each other, separated by commas."""

    def __call__(self, parser: Any, args: argparse.Namespace, text: Any, flag: str | None = None) -> None:
        earlier = getattr(args, self.dest)
        setattr(args, self.dest, text if earlier is None else f"{earlier},{text}")


def _can_be_flag(hint: Any) -> bool:
    """Whether a text on the command line can stand for a value of this type."""
    return all(
        option in (bool, int, float, str, type(None))
        or typing.get_origin(option) is Literal
        or (typing.get_origin(option) is tuple and all(a is ... or _can_be_flag(a) for a in typing.get_args(option)))
        for option in members(hint)
    )


def _text(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
