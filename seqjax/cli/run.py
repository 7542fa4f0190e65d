"""`seqjax run`: train a model, and keep the run in a folder."""

import argparse
import contextlib
import itertools
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqjax import config, registry
from seqjax.cli.parser import Parser
from seqjax.errors import Error
from seqjax.plugin import fields_of

DESCRIPTION = """Train a model, and keep the run in a folder.

Every part of a run is a plugin: --model rnn chooses one, --model.hidden 512 sets its parameters.
Plugins there are: seqjax list. Flags come in any order and lie over --config."""


def main(argv: Sequence[str]) -> int:
    """Reads the recipe, trains, says where the run is and what to type next."""
    argv, flags = _split_fields(argv)
    parser = _parser()
    args = parser.read(argv)
    recipe = _recipe(args, flags)
    if args.help:
        parser.epilog = _plugin_help(recipe)
        parser.print_help()
        return 0
    fields = config.resolve(recipe)  # wrong names are found without importing jax
    _use_all_cores(args.devices)
    from seqjax.experiment import Experiment

    experiment = Experiment(**fields)
    if args.print_config:
        print(experiment.to_toml(), end="")
        return 0
    if args.dry_run:
        from seqjax.cli.dry_run import describe

        print(describe(experiment, args.devices))
        return 0
    run = _run(experiment, args)
    _say_what_next(run, args.load)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="seqjax run", description=DESCRIPTION, add_help=False)
    for kind in registry.GROUPS:
        parser.add_argument(f"--{kind}", metavar="NAME", help=f"the {kind}, by short name or full id")
    for name, field in fields_of(config.Scalars).items():
        text = f"{field.doc[:1].lower()}{field.doc[1:]} Default {field.default}."
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="X", help=text)
    parser.add_argument("--config", metavar="FILE", help="a TOML file to start from, such as a run's config.toml")
    parser.add_argument("--out", metavar="DIR", help="folder of the run; default: a fresh one under runs/")
    parser.add_argument(
        "--devices", type=int, metavar="N", help="devices to share a batch; default: all that divide it"
    )
    parser.add_argument("--print-config", action="store_true", help="print the whole recipe as TOML; train nothing")
    parser.add_argument("--dry-run", action="store_true", help="print shapes, sizes and memory; train nothing")
    parser.add_argument("-h", "--help", action="store_true", help="this text, and the parameters of the chosen plugins")
    return parser


def _split_fields(argv: Sequence[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Takes the flags of plugins' fields, `--kind.field value`, out of the arguments."""
    plain: list[str] = []
    fields: dict[str, dict[str, str]] = {}
    rest = iter(argv)
    for arg in rest:
        match = re.fullmatch(rf"--({'|'.join(registry.GROUPS)})\.([^=]+)(=(.*))?", arg, re.DOTALL)
        if not match:
            plain.append(arg)
            continue
        kind, name, equals, value = match.groups()
        if not equals:
            value = next(rest, None)
            if value is None:
                raise Error(f"{arg}: expects a value\nsee seqjax run --help")
        fields.setdefault(kind, {})[name.replace("-", "_")] = value
    return plain, fields


def _recipe(args: argparse.Namespace, fields: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The configuration of the file, with the flags laid over it."""
    recipe = {} if args.config is None else config.read_toml(args.config)
    for kind in registry.GROUPS:
        name, strings = getattr(args, kind), fields.get(kind, {})
        table: dict[str, Any] = {} if name is None else {"plugin": name}
        below = config.overlay(config.overlay(config.DEFAULTS, recipe), {kind: table}).get(kind)
        if strings:
            table |= _parse_table(kind, below, strings)
        if table:
            recipe = config.overlay(recipe, {kind: table})
    scalars = {name: text for name in fields_of(config.Scalars) if (text := getattr(args, name)) is not None}
    return recipe | config.parse_fields(config.Scalars, scalars)


def _parse_table(kind: str, below: Any, strings: dict[str, str]) -> dict[str, Any]:
    """The strings by the types of the plugin's fields; left as they are where the plugin is not to be had."""
    name = below.get("plugin") if isinstance(below, dict) else None
    try:
        return config.parse_fields(registry.get(kind, str(name)), strings)
    except Error:
        return dict(strings)  # the builder says what is wrong, together with all other faults


def _plugin_help(recipe: dict[str, Any]) -> str:
    """The parameters of the chosen plugins."""
    from seqjax.cli.show import field_lines

    text = ["parameters of the chosen plugins:"]
    for kind, table in config.overlay(config.DEFAULTS, recipe).items():
        if kind in registry.GROUPS:
            entry = registry.find(kind, str(table.get("plugin") if isinstance(table, dict) else table))
            text += ["", f"{kind} {entry.id}", *field_lines(registry.load(entry), f"--{kind}.", table)]
    return "\n".join(text)


def _use_all_cores(devices: int | None) -> None:
    """On a CPU, one device a core: to be said before jax starts its backend."""
    import jax

    from seqjax.devices import num_cores

    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        with contextlib.suppress(RuntimeError):  # it has started already, and has the devices that it has
            jax.config.update("jax_num_cpu_devices", devices or num_cores())


def _run(experiment: Any, args: argparse.Namespace) -> Any:
    """Runs in `--out`, else in the first free one of `runs/<corpus>-<model>-<n>`."""
    name = "-".join(registry.name_of(plugin) for plugin in (experiment.corpus, experiment.model))
    for out in [args.out] if args.out else (Path("runs", f"{name}-{n}") for n in itertools.count(1)):
        try:
            if args.out or not Path(out).exists():
                return experiment.run(out, devices=args.devices, progress=True)
        except Error as fault:
            if args.out or fault.exit_code != 5:  # another run took the folder in between
                raise
    raise AssertionError("the names of folders do not end")


def _say_what_next(run: Any, loaded: Sequence[str]) -> None:
    from seqjax.display import escape

    folder = " ".join([shlex.quote(str(run.path)), *(f"--load {shlex.quote(file)}" for file in loaded)])
    prompt = run.codec.decode(run.prepared.streams["train"].inputs[:4])
    prompt = shlex.quote(prompt if prompt.isprintable() else "")
    print(f'sample   "{escape(run.samples["temperature 0.8"][:100])}…"')
    print(f"saved    {escape(str(run.path))}")
    print(f"next     seqjax generate {folder} --prompt {prompt} --temperature 0.8")
    print(f"         seqjax evaluate {folder}")
    print("         seqjax run --corpus text-file --corpus.path my-book.txt")
