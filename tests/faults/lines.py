"""Command lines, as hypothesis draws them from a grammar: every verb, every flag, odd values."""

import os
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from faults.changes import TOML
from faults.made import OF_TEXT, OF_VALUES
from seqjax.cli.command import VERBS
from seqjax.plugin import registry
from seqjax.plugin.base import fields_of
from seqjax.runs.settings import KINDS, Scalars

ODD = [
    *("", " ", "-1", "0", "1", "2", "0.5", "1e39", "-0.0", "nan", "inf", "-inf", "1e400", "2147483648", "4294967296"),
    *("9223372036854775807", "9223372036854775808", "1" + "0" * 20, "9" * 400, "9" * 5000, "a" * 300, "a" * 5000),
    *("\udcff", "\x1b[31m", "\u202e", "../x", "/", "/dev/zero", "/dev/null", "pipe", "text.txt", "halves.py", "rnn"),
    *("none", "true", "x=1", ":", "full:x=1", "--", "-", "*", "[", "%s", "{}", "None", "'", '"', "1,2", ",", "\n"),
]
PLUGINS = {
    "raises.py": "1 / 0\n",
    "exits.py": "raise SystemExit(0)\n",
    "quits.py": "quit()\n",
    "no_plugin.py": "x = 1\n",
    "syntax.py": "def\n",
    "deep.py": "x = " + "(" * 3000 + ")" * 3000 + "\n",
    "nul.py": "x = 1\0\n",
    "recursion.py": "def f(): f()\nf()\n",
    "not_python.txt": "x = 1\n",
    **{
        f"bad_{method}.py": f"""
from dataclasses import dataclass
import seqjax

@seqjax.register("{kind}", "bad")
@dataclass(frozen=True)
class Bad(seqjax.{kind.capitalize()}):
    {fields}

    def {method}(self, *args, **kwargs):
        {what}
"""
        for kind, method, fields in [
            ("dataset", "load", "pass"),
            ("tokenizer", "split", "join = lambda self, tokens: ''"),
            ("tokenizer", "join", "split = lambda self, text: text.split()"),
            ("sampler", "plan", "batch_size: int = 2; num_steps: int = 5"),
            ("model", "init", "pass"),
            ("gradient", "estimate", "pass"),
            ("optimizer", "build", "pass"),
        ]
        for what in ["raise SystemExit(0)" if method in ("load", "build") else "return [][1]"]
    },
}
"""Files that are loaded."""
KIND_OF = {"load": "dataset", "split": "tokenizer", "join": "tokenizer", "plan": "sampler", "init": "model"}
KIND_OF |= {"estimate": "gradient", "build": "optimizer"}
FLAGS = {
    "generate": ["--prompt", "--length", "--temperature", "--top-k", "--top-p", "--seed", "--which"],
    "evaluate": ["--part", "--text", "--which"],
    "compare": ["--metric", "--against", "--which", "--figure", "--page"],
    "lags": ["--max-lag", "--steps", "--rows", "--figure"],
    "measure": ["--gradient", "--draws", "--windows", "--at", "--seed"],
    "track": ["--to"],
    "reproduce": ["--only", "--out", "--jobs", "--title", "--markdown", "--page", "--table"],
    "new": ["--out", "--package"],
}
SHORT = {"generate": ["--length", "3"], "measure": ["--draws", "2", "--windows", "1"]}
SHORT |= {"lags": ["--max-lag", "2", "--steps", "4", "--rows", "2"], "track": ["--to", "tensorboard"]}
TRAINS = ["run", "sweep"]
OTHER_FLAGS = ["--config", "--out", "--devices", "--checkpoint-seconds", "--tracker", "--load", "--seeds", "--layout"]
OTHER_FLAGS += ["--launcher", "--init-from"]


def make_files(folder: Path) -> None:
    """Makes the files that command lines name."""
    for name, text in PLUGINS.items():
        (folder / name).write_text(text)
    os.mkfifo(folder / "pipe")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "raises.py").write_text('"""Is it?   python raises.py"""\n1 / 0\n')
    (folder / "nothing").mkdir()


@st.composite
def lines(draw: Any, runs: list[str]) -> list[str]:
    """A command line, for the folder that has these runs."""
    verb = draw(st.sampled_from([*TRAINS, *TRAINS, *TRAINS, *VERBS, "", "--completion", "--version"]))
    odd = st.sampled_from(ODD)
    words = [verb]
    if verb in TRAINS:
        words += draw(st.sampled_from([OF_TEXT, OF_VALUES]))
        words += [word for _ in range(draw(st.integers(1, 2))) for word in draw(_of_experiment())]
        # Trained lines have no odd numbers that would make a training long.
        words += [draw(st.sampled_from(["--dry-run", "--print-config", "--help", "--dry-run"]))]
    elif verb in ("list", "show", "check", "new"):
        kind = draw(st.one_of(st.sampled_from([*registry.GROUPS]), odd))
        name = draw(st.one_of(odd, odd, st.sampled_from(["rnn", "bad", "char", "mine"])))
        words += [kind, *([] if verb == "list" else [name])]
        words += [draw(odd) for _ in range(draw(st.integers(0, 1)))]
        words += ["--out", "made"] if verb == "new" else []
    elif verb == "reproduce":
        words += [draw(st.sampled_from(["scripts", "nothing", "missing", "text.txt", "pipe", "rnn"]))]
    elif verb in VERBS:
        words += [draw(st.one_of(st.sampled_from(runs), st.sampled_from(runs), odd)), *SHORT.get(verb, [])]
        words += ["--load", "halves.py"] if words[1] == "halves" else []
    else:
        words += [draw(odd)]
    for flag in draw(st.lists(st.sampled_from(FLAGS.get(verb, ["--load"])), min_size=verb in FLAGS, max_size=2)):
        words += [flag, *([draw(st.one_of(odd, st.sampled_from([*PLUGINS])) if flag == "--load" else odd)])]
    return [word for word in words if "\0" not in word]


@st.composite
def _of_experiment(draw: Any) -> list[str]:
    """A flag of an experiment with an odd value."""
    odd, kind = st.sampled_from(ODD), draw(st.sampled_from([*KINDS, "other", "scalar", "bad", "config"]))
    if kind == "bad":
        file = draw(st.sampled_from([*PLUGINS]))
        words = ["--load", file]
        of = KIND_OF.get(file.removeprefix("bad_").removesuffix(".py"))
        return words if of is None else [*words, f"--{of}", "bad"]
    if kind == "config":
        return ["--config", "odd.toml"]
    if kind == "other":
        return [draw(st.sampled_from(OTHER_FLAGS)), draw(odd)]
    if kind == "scalar":
        return [f"--{draw(st.sampled_from([*fields_of(Scalars)])).replace('_', '-')}", draw(odd)]
    name = draw(st.one_of(st.sampled_from(registry.names(kind)), st.sampled_from(registry.names(kind)), odd))
    words = [f"--{kind}", name]
    if name in registry.names(kind):
        for field in draw(st.lists(st.sampled_from([*fields_of(registry.get(kind, name)), "x"]), max_size=2)):
            words += [f"--{kind}.{field.replace('_', '-')}", draw(odd)]
    return words


@st.composite
def configs(draw: Any) -> str:
    """A config with odd values."""
    tables: list[str] = []
    for name in draw(st.lists(st.sampled_from([*fields_of(Scalars), "x"]), unique=True, max_size=2)):
        tables.append(f"{name} = {draw(st.sampled_from(TOML))}")
    for kind in draw(st.lists(st.sampled_from([*KINDS, "heldout", "x"]), unique=True, max_size=2)):
        if draw(st.booleans()):
            tables.append(f"[{kind}]\nplugin = {draw(st.sampled_from(TOML))}")
            continue
        known = registry.names(kind) if kind in registry.GROUPS else registry.names("dataset")
        plugin = draw(st.sampled_from(known))
        tables.append(f'[{kind}]\nplugin = "{plugin}"')
        cls = registry.get(kind if kind in registry.GROUPS else "dataset", plugin)
        for field in draw(st.lists(st.sampled_from([*fields_of(cls), "x"]), unique=True, max_size=2)):
            tables.append(f"{field} = {draw(st.sampled_from(TOML))}")
    return "\n".join(tables) + "\n"
