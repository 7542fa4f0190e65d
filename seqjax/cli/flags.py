"""The flags of an experiment, which `run` and `sweep` share, and the config that they describe."""

import argparse
import collections
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from seqjax.cli.parser import SEVERAL, Parser, several_values, whole
from seqjax.errors import Error, closest
from seqjax.plugin import config, registry
from seqjax.plugin.base import fields_of, members, parts
from seqjax.plugin.other_names import field_meant
from seqjax.runs import settings
from seqjax.terminal.shell import join, program, quote
from seqjax.terminal.stream import line

TABLES = ("parquet", "jsonl")
"""The suffixes of the files that the dataset csv reads too."""

MOST_DEVICES = 1024
"""The largest number of devices that are made on a CPU."""


class ExperimentParser(Parser):
    """A parser of the flags of an experiment, whose hints know the plugins that its flags choose, and files."""

    chosen: Mapping[str, Sequence[str]] = {}
    """Kind -> the texts of its flag that are not among the parsed arguments, since a sweep has several."""

    def flag_meant(self, unknown: str, known: argparse.Namespace) -> str:
        """A hint at a flag: for a file, for a field of a chosen plugin (--gradient.steps by --steps), or another."""
        if not unknown.startswith("-") and (Path(unknown).is_file() or re.search(r"[^.]\.[A-Za-z]\w*$", unknown)):
            is_config = Path(unknown).suffix == ".toml"
            flag = f"--config {quote(unknown)}" if is_config else f"--dataset {_dataset_of(unknown)}"
            missing = "" if Path(unknown).is_file() else "; there is no such file"
            return f"{missing}; to read {'a file' if missing else 'this file'}: {flag}"
        name = unknown.partition("=")[0].lstrip("-").replace("-", "_")
        for kind in settings.KINDS:
            if any(name in _fields(kind, text) for text in self._given(kind, known)):
                return self.flag_of(f"{kind}.{name}", known)
        return super().flag_meant(unknown, known)

    def flag_of(self, field: str, known: argparse.Namespace) -> str:
        """A hint at the flag of a field, or at the plugins that have it if the chosen one has not."""
        kind, _, inner = field.rpartition(".")
        if not kind or field == "dataset.path":  # the error about a path without a dataset names the dataset
            return super().flag_of(field, known)
        default = settings.DEFAULTS.get(kind, {}).get("plugin")
        texts = self._given(kind, known) or ([default] if default else [])
        having = [text for text in texts if inner in _fields(kind, text)]
        if len(having) == len(texts) == 1:
            return super().flag_of(field, known)
        if having:  # the others would refuse the flag
            return f"; did you mean '--{kind} {having[0]}:{inner}=...'?"
        return owners(kind, inner)

    def _given(self, kind: str, known: argparse.Namespace) -> list[str]:
        """What the flag of a kind was given."""
        return [text for text in self.chosen.get(kind, [getattr(known, kind, None)]) if text is not None]


def _fields(kind: str, text: str) -> Collection[str]:
    """The names of the fields of a plugin that a flag names; empty for a wrong name, which is reported elsewhere."""
    try:
        return fields_of(registry.get(kind, str(_split_name(kind, text, {})[0])))
    except Error:
        return ()


def owners(kind: str, field: str) -> str:
    """Which plugins of a kind have a field, as the end of an error; an empty string if none has."""
    having = [name for name in registry.names(kind) if field in _fields(kind, name)]
    return f"; {field.replace('_', '-')} is a field of --{kind} {_or(having)}" if having else ""


def _or(names: Sequence[str]) -> str:
    """Names as alternatives, of which at most four are shown."""
    return " or ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} others"


def experiment_parser(prog: str, description: str) -> ExperimentParser:
    """A parser with the flags of an experiment. `split_fields` reads the flags of plugins' fields."""
    parser = ExperimentParser(prog=prog, description=description, add_help=False)
    for kind in settings.KINDS:
        known = ", ".join(registry.names(kind))
        text = f"the {kind}, by short name or full id; name:field=value sets a field. Known: {known}"
        parser.add_argument(f"--{kind}", metavar="NAME", help=text)
    for name, field in fields_of(settings.Scalars).items():
        default = "" if field.default in (None, ()) else f" Default {field.default}."
        text = f"{field.doc[:1].lower()}{field.doc[1:]}{default}"
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=_metavar(field.hint), help=text)
    parser.add_argument("--config", metavar="FILE", help="a TOML file to start from, such as a run's config.toml")
    parser.add_argument("--out", metavar="DIR", help="folder of the run; default: a new one under runs/")
    parser.add_argument(
        "--devices",
        type=whole,
        metavar="N",
        help="devices over which rows are sharded; default: the most that divide the batch",
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=settings.CHECKPOINT_SECONDS,
        metavar="S",
        help="seconds from one checkpoint to the next; default %(default)g",
    )
    text = "mirror the run for a viewer, such as tensorboard; also --tracker.FIELD"
    parser.add_argument("--tracker", metavar="NAME", help=text)
    parser.add_argument("--print-config", action="store_true", help="print the whole config as TOML; train nothing")
    parser.add_argument("--dry-run", action="store_true", help="print shapes, updates and bytes; train nothing")
    parser.add_argument(
        "--target",
        metavar="DEVICE",
        help="with --dry-run: a device to compile for, which need not be here: h100, v5e, or a slice such as v5e:2x4",
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this text and the chosen plugins' parameters")
    return parser


def _metavar(hint: Any) -> str:
    """What a help text shows for a field of this type: the values of a choice, and whether there may be several."""
    values = [str(value) for part in parts(hint) if get_origin(part) is Literal for value in get_args(part)]
    several = any(get_origin(option) is tuple for option in members(hint))
    return (f"{{{','.join(values)}}}" if values else "X") + (SEVERAL if several else "")


def choose_platform(args: argparse.Namespace) -> None:
    """Before jax is imported: a run for a device that need not be here is described by the CPU of this machine."""
    if args.target and not args.dry_run:
        raise Error("--target names a device that --dry-run compiles for: add --dry-run")
    if args.target:
        # The plugin of jax for a GPU raises an error on a machine without one.
        os.environ["JAX_PLATFORMS"] = "cpu"


def dry_run_or_config(args: argparse.Namespace, experiment: Any) -> str | None:
    """The text that `--print-config` or `--dry-run` asks for; None if neither was given."""
    if args.print_config:
        return experiment.to_toml().rstrip()
    if args.dry_run:
        from seqjax.cli.dry_run import dry_run_text

        return dry_run_text(experiment, args.devices, args.target)
    return None


@contextlib.contextmanager
def print_resume_command(verb: str, argv: Sequence[str], args: argparse.Namespace, out: str | Path) -> Iterator[None]:
    """After a signal, prints the command that resumes the run, with `--out` added if it was not given."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if Path(out).exists():
            named = [] if args.out else ["--out", str(out)]
            with contextlib.suppress(OSError):  # stderr may have gone with the terminal
                line("next", f"{program()} {verb} {join([*argv, *named])}", sys.stderr)
        raise


def split_fields(argv: Sequence[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Takes the flags of plugins' fields, `--kind.field value`, out of the arguments."""
    plain: list[str] = []
    fields: dict[str, dict[str, str]] = {}
    rest = collections.deque(argv)
    while rest:
        arg = rest.popleft()
        match = re.fullmatch(rf"--({'|'.join(registry.GROUPS)})\.([^=]+)(=(.*))?", arg, re.DOTALL)
        if not match:
            plain.append(arg)
            continue
        kind, name, equals, value = match.groups()
        if not equals:
            if not rest:
                raise Error(f"{arg}: expects a value\nsee --help")
            value = rest.popleft()
            if rest and not rest[0].startswith("-"):
                raise Error(several_values(arg, value, rest[0]))
        fields.setdefault(kind, {})[name.replace("-", "_")] = value
    return plain, fields


def read_config(args: argparse.Namespace, fields: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The config of the file, updated by the flags."""
    chosen = {} if args.config is None else _read_file(args.config)
    for kind in settings.KINDS:
        name, strings = _split_name(kind, getattr(args, kind), fields.get(kind, {}))
        if kind == "dataset":
            _check_no_file(kind, name)
            if name is None and kind not in chosen and "path" in strings:
                path = strings["path"]
                flags = f"--dataset {_reader(path)} --dataset.path {quote(path)}"
                raise Error(f"--dataset.path {path}: name the dataset that reads this file too: {flags}")
        table: dict[str, Any] = {} if name is None else {"plugin": name}
        if strings:
            # The table that the flags of its fields change: the defaults, with the file and the name over them.
            is_for_values = name is None and kind in settings.FOR_VALUES
            defaults = settings.defaults_of(chosen) if is_for_values else settings.DEFAULTS
            under_flags = config.overlay(config.overlay(defaults, chosen), {kind: table}).get(kind)
            table |= _parse_table(kind, under_flags, strings)
        if table:
            chosen = config.overlay(chosen, {kind: table})
    if args.seed and "," in args.seed:
        raise Error(f"--seed {args.seed}: one seed is expected; did you mean '--seeds {args.seed}'?")
    scalars = {name: text for name in fields_of(settings.Scalars) if (text := getattr(args, name)) is not None}
    chosen |= config.parse_fields(settings.Scalars, scalars)
    if isinstance(chosen.get("heldout"), str):  # not a number, but a dataset such as text-file:path=valid.txt
        name, strings = _split_name("dataset", chosen["heldout"], {})
        _check_no_file("heldout", name)
        table = {"plugin": name, **_parse_table("dataset", {"plugin": name}, strings)}
        chosen["heldout"] = {**_fields_of_same_plugin(chosen, name), **table}
    return chosen


def check_fields(chosen: dict[str, Any], flags: Mapping[str, Collection[str]]) -> None:
    """Raises an `Error` with the flags that were meant, if flags such as `--optimizer.lr` are no fields.

    Args:
        chosen: the config.
        flags: kind -> the fields for which there were flags.
    """
    problems = []
    for kind, names in flags.items():
        table = chosen.get(kind, {})
        plugin = table.get("plugin") if isinstance(table, dict) else table
        if plugin is None:
            plugin = settings.defaults_of(chosen).get(kind, {}).get("plugin")
        known = _fields(kind, str(plugin))
        # A wrong name of a plugin, of which no field is known, is reported with all other faults of a config.
        for name in [name for name in names if known and name not in known]:
            meant = field_meant(name, known) or closest(name, known)
            typed = f"; did you mean '--{kind}.{meant}'?".replace("_", "-") if meant else ""
            hint = typed or owners(kind, name)
            of = f"fields of {registry.find(kind, str(plugin)).name}: {', '.join(known)}".replace("_", "-")
            problems.append(f"no such argument: --{kind}.{name.replace('_', '-')}{hint} ({of})")
    if problems:
        raise Error("\n".join(problems))


def _fields_of_same_plugin(chosen: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The fields of the dataset if it is of this plugin, such as the columns of a CSV file; else none."""
    dataset = chosen.get("dataset", {})
    if not isinstance(dataset, dict):
        return {}  # as below
    try:
        is_same = registry.find("dataset", str(name)) == registry.find("dataset", str(dataset.get("plugin")))
    except Error:
        return {}  # the builder reports this fault together with all others
    return dataset if is_same else {}


def _check_no_file(flag: str, name: str | None) -> None:
    """Raises an `Error` if a file, or a name with the suffix of a file, was given in place of a dataset."""
    if name is None or name in registry.names("dataset"):
        return
    is_file = Path(name).is_file()
    if is_file or re.fullmatch(r"[^:]+\.[A-Za-z]+", name):
        missing = "" if is_file else "there is no such file, and "
        words = f"{missing}a file needs the name of the dataset that reads it: --{flag} {_dataset_of(name)}"
        raise Error(f"--{flag} {name}: {words}")


def _dataset_of(file: str) -> str:
    """The dataset that reads a file, as a flag names it with its path."""
    return quote(f"{_reader(file)}:path={file}")


def _reader(file: str) -> str:
    """The dataset that reads a file: `csv` for a table, else the dataset named like the suffix, else `text-file`."""
    suffix = Path(file).suffix[1:]
    if suffix in TABLES:
        return settings.TABLE_FILE.removeprefix("seqjax/")
    return suffix if suffix in registry.names("dataset") else settings.TEXT_FILE.removeprefix("seqjax/")


def read_plugin(kind: str, text: str, fields: dict[str, str] | None = None) -> Any:
    """The plugin of a text such as `truncated:steps=8`.

    Args:
        kind: its kind.
        text: its name, and perhaps fields.
        fields: the strings of further fields.
    """
    name, strings = _split_name(kind, text, fields or {})
    assert name is not None
    return config.create(kind, name, **config.parse_fields(registry.get(kind, name), strings))


def read_option(args: argparse.Namespace, fields: dict[str, dict[str, str]], kind: str) -> Any:
    """The plugin of a flag that is not part of an experiment, such as `--tracker`; None if it was not given."""
    text, inner = getattr(args, kind), fields.get(kind, {})
    if text is not None:
        return read_plugin(kind, text, inner)
    if inner:
        raise Error(f"--{kind}.{next(iter(inner))}: give the {kind} too, such as --{kind} {registry.names(kind)[0]}")
    return None


def read_plugins(kind: str, texts: Sequence[str], flag: str = "") -> dict[str, Any]:
    """The plugins of several texts, by text. Errors name the flag; "": it has the name of the kind."""
    plugins, problems = {}, []
    for text in texts:
        try:
            plugins[text] = read_plugin(kind, text)
        except Error as fault:
            problems.append(str(fault))
    if len(set(texts)) < len(texts):
        problems.append("a value is given twice")
    if problems:
        raise Error(f"--{flag or kind} {' '.join(texts)}:", problems=problems)
    return plugins


def _split_name(kind: str, value: str | None, strings: dict[str, str]) -> tuple[str | None, dict[str, str]]:
    """`truncated:steps=8` as a plugin's name and the strings of its fields."""
    if value is None:
        return None, strings
    name, *inner = re.split(r":(?=[\w-]+=)", value)
    for field in inner:
        key, _, text = field.partition("=")
        if key.replace("-", "_") in strings:
            raise Error(f"--{kind}.{key} is given twice: it is in {value} too")
        strings = strings | {key.replace("-", "_"): text}
    return name, strings


def _read_file(file: str) -> dict[str, Any]:
    """The config in a file. Data that were given in memory are read from the folder of the file."""
    from seqjax.runs.files.folder import DATA, MANIFEST

    if (Path(file).parent / MANIFEST).exists():
        from seqjax.runs.files.manifest import check_files

        check_files(Path(file).parent, [Path(file).name, *DATA.values()])
    content = config.read_toml(file)
    if not any(isinstance(table, dict) and table.get("plugin") == config.IN_MEMORY for table in content.values()):
        return content
    from seqjax.runs.files.data import with_data

    return with_data(content, Path(file).parent)


def _parse_table(kind: str, below: Any, strings: dict[str, str]) -> dict[str, Any]:
    """The strings converted to the types of the plugin's fields; unchanged if the plugin cannot be loaded."""
    name = below.get("plugin") if isinstance(below, dict) else None
    try:
        return config.parse_fields(registry.get(kind, str(name)), strings)
    except Error:
        return dict(strings)  # the builder reports this fault together with all others


def plugin_help(chosen: dict[str, Any]) -> str:
    """The parameters of the chosen plugins."""
    from seqjax.cli.describe import field_lines

    text = ["parameters of the chosen plugins:"]
    for kind, table in config.overlay(settings.defaults_of(chosen), chosen).items():
        if kind in settings.KINDS:
            entry = registry.find(kind, str(table.get("plugin") if isinstance(table, dict) else table))
            values = table if isinstance(table, dict) else {}
            text += ["", f"{kind} {entry.id}", *field_lines(registry.load(entry), f"--{kind}.", values)]
    return "\n".join(text)


def check_num_devices() -> None:
    """Raises an `Error` unless JAX_NUM_CPU_DEVICES, if it is set, is a number of devices that JAX can make."""
    text = os.environ.get("JAX_NUM_CPU_DEVICES")
    if text is not None and not (text.strip().isdecimal() and 1 <= int(text.strip()[:10]) <= MOST_DEVICES):
        raise Error(
            f"the environment variable JAX_NUM_CPU_DEVICES is {text!r:.80}; it is a number from 1 to {MOST_DEVICES}"
        )


def check_xla_flags() -> None:
    """Raises an `Error` if XLA_FLAGS is set and XLA does not take it.

    XLA ends the process that reads a wrong flag, so another process reads it first. Importing jaxlib alone takes a
    fifth of a second.
    """
    text = os.environ.get("XLA_FLAGS")
    if not text:
        return
    command = [sys.executable, "-P", "-c", "from jaxlib.xla_client import CompileOptions; CompileOptions()"]
    tried = subprocess.run(command, capture_output=True, text=True)
    reason = re.search(r"flags\w*\.cc:\d+\] (.*)", tried.stderr)
    if tried.returncode and reason:
        raise Error(
            f"the environment variable XLA_FLAGS is {text!r:.80}, which XLA does not take: {reason[1]}\n"
            "Correct it, or unset it"
        )


def use_all_cores(devices: int | None, processes: int = 1) -> None:
    """On a CPU, makes one device per core. Call it before jax starts its backend.

    Args:
        devices: the number of devices to make; None: one per core.
        processes: the number of processes that share these devices.
    """
    import jax

    from seqjax.training.devices import num_cores

    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        # More devices would take minutes to make. A later check finds a number that does not divide the batch.
        count = min(max(1, devices // processes), MOST_DEVICES) if devices else num_cores()
        with contextlib.suppress(RuntimeError):  # it has started, and its devices are fixed
            jax.config.update("jax_num_cpu_devices", count)
