"""Command lines and configs, as hypothesis draws them from a grammar: every verb, every flag, odd values."""

import functools
import itertools
import os
import re
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from support.shell import call

from faults.changes import EVIL, EVIL_TEXT, TOML
from faults.kinds import RNN, SERIES
from seqjax.cli.command import VERBS
from seqjax.plugin import registry
from seqjax.plugin.base import fields_of
from seqjax.runs.settings import KINDS, Scalars

ODD = [
    *("", " ", "-1", "0", "1", "2", "0.5", "1e39", "-0.0", "nan", "inf", "-inf", "1e400", "2147483648", "4294967296"),
    *("9223372036854775807", "9223372036854775808", "1" + "0" * 20, "9" * 400, "9" * 5000, "a" * 300, "a" * 5000),
    *("\udcff", EVIL, EVIL, "../x", "/", "/dev/zero", "/dev/null", "pipe", "text.txt", "halves.py", "rnn", "none"),
    *("true", "x=1", ":", "full:x=1", "--", "-", "*", "[", "%s", "{}", "None", "'", '"', "1,2", ",", "\n"),
]
PLUGINS = {
    "raises.py": "1 / 0\n",
    "exits.py": "raise SystemExit(0)\n",
    "evil.py": f"raise RuntimeError({EVIL!r})\n",
    "syntax.py": "def\n",
    "deep.py": f"x = {'(' * 3000}{')' * 3000}\n",
    "nul.py": "x = 1\0\n",
    "recursion.py": "def f(): f()\nf()\n",
}
"""Files that cannot be loaded."""
SHORT = {"generate": ["--length", "3"]}


@functools.cache
def flags_of(verb: str) -> list[str]:
    """The flags of a verb that take a value, as its help names them."""
    text = call(verb, "--help").stdout if verb in VERBS else ""
    return [*dict.fromkeys(re.findall(r"(--[a-z-]+) [A-Z{]", text))]


def make_files(folder: Path) -> None:
    """Makes the files that command lines name."""
    for name, text in PLUGINS.items():
        (folder / name).write_text(text)
    os.mkfifo(folder / "pipe")


@st.composite
def lines(draw: Any, runs: list[str]) -> list[str]:
    """A command line, for the folder that has these runs."""
    verb = draw(st.sampled_from([*["run", "sweep"] * 3, *VERBS, "", "--version"]))
    odd, words = st.sampled_from(ODD), [verb]
    if verb in ("run", "sweep"):
        words += [word.replace("DATA/", "") for word in draw(st.sampled_from([RNN, SERIES]))[1:]]
        words += [word for _ in range(draw(st.integers(0, 2))) for word in draw(plugins(odd))]
        # Odd numbers may make a training long, so that nothing is trained.
        words += [draw(st.sampled_from(["--dry-run", "--print-config", "--help", "--dry-run"]))]
    elif verb in ("list", "check", "new"):
        words += [draw(st.one_of(st.sampled_from([*registry.GROUPS]), odd))]
        words += [draw(st.one_of(odd, st.sampled_from(["rnn", "char", "mine"])))]
        words += ["--out", "made"] if verb == "new" else []
    else:
        words += [draw(st.one_of(st.sampled_from(runs), odd) if verb in VERBS else odd), *SHORT.get(verb, [])]
        words += ["--load", "halves.py"] if words[1] == "local plugin" else []
    for flag in draw(st.lists(st.sampled_from(flags_of(verb) or ["--load"]), min_size=1, max_size=2)):
        words += [flag, draw(st.sampled_from([*PLUGINS]) if flag == "--load" else odd)]
    return [word for word in words if "\0" not in word]


@st.composite
def plugins(draw: Any, odd: Any) -> list[str]:
    """The flags of a plugin and its fields with odd values."""
    kind = draw(st.sampled_from(KINDS))
    name = draw(st.sampled_from(registry.names(kind)))
    fields = draw(st.lists(st.sampled_from([*fields_of(registry.get(kind, name)), "x"]), max_size=2))
    flags = [[f"--{kind}.{field.replace('_', '-')}", draw(odd)] for field in fields]
    return [f"--{kind}", name, *itertools.chain.from_iterable(flags)]


@st.composite
def configs(draw: Any) -> str:
    """A config with odd values, and odd names of tables and fields."""
    odd = st.sampled_from(TOML)

    def some(names):
        return draw(st.lists(st.sampled_from([*names, EVIL_TEXT]), unique=True, max_size=2))

    tables = [f"{name} = {draw(odd)}" for name in some(fields_of(Scalars))]
    for table in some([*KINDS, "heldout"]):
        kind = table if table in registry.GROUPS else "dataset"
        plugin = draw(st.sampled_from(registry.names(kind)))
        is_known = draw(st.booleans())
        tables += [f"[{table}]", f'plugin = "{plugin}"' if is_known else f"plugin = {draw(odd)}"]
        tables += [f"{field} = {draw(odd)}" for field in some(fields_of(registry.get(kind, plugin))) if is_known]
    return "\n".join(tables) + "\n"
