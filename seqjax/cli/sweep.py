"""`seqjax sweep`: one run for every combination of the values of some flags."""

import argparse
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqjax.cli.compare import add_comparison_flags, print_comparison
from seqjax.cli.figure import check_figure
from seqjax.cli.flags import (
    check_fields,
    choose_platform,
    dry_run_or_config,
    experiment_parser,
    plugin_help,
    print_resume_command,
    read_config,
    read_option,
    split_fields,
    use_all_cores,
)
from seqjax.errors import Error, counted, escape
from seqjax.plugin.base import fields_of
from seqjax.plugin.config import create
from seqjax.runs import settings
from seqjax.terminal.shell import argument, program
from seqjax.terminal.show import show
from seqjax.terminal.stream import line

MIN_OPERATIONS = 1e12
"""The floating-point operations of a run, about ten seconds on one core, from which processes of their own pay: each of
them takes some seconds to start."""

DESCRIPTION = """Train one run for every combination of the values of some flags, and compare them.

It takes the flags of {seqjax} run, and each may have several values: --gradient full truncated:steps=8
--model.hidden 64 128 --seeds 0,1,2. Fields of a plugin follow its name: name:field=value:field=value.
The same command resumes an interrupted sweep, and with more values or seeds it makes the runs that are missing."""


def main(argv: Sequence[str]) -> int:
    """Trains the missing runs, and prints their folder and a table."""
    plain, axes = _split_axes(argv)
    plain, options = split_fields(plain)  # the fields of launcher and tracker, which are no axes
    parser = experiment_parser(f"{program()} sweep", DESCRIPTION.format(seqjax=program()))
    text = "make the runs in other processes, such as local; none: one after the other; also --launcher.FIELD"
    parser.add_argument("--launcher", metavar="NAME", help=text)
    text = "the same as --seed 0 1 2"
    parser.add_argument("--seeds", metavar="0,1,2", help=text)
    add_comparison_flags(parser)
    parser.chosen = {kind: values for kind in settings.KINDS if (values := axes.get(f"--{kind}"))}
    args = parser.read(plain)
    choose_platform(args)
    base = [] if args.config is None else ["--config", args.config]
    configs = {label: _config(parser, [*base, *flags]) for label, flags in _combine(axes).items()}
    if args.help:
        parser.epilog = plugin_help(next(iter(configs.values())))
        parser.print_help()
        return 0
    for label, flags in _combine(axes).items():
        check_fields(configs[label], split_fields(flags)[1])
    in_turn = args.launcher == "none"
    args.launcher = None if in_turn else args.launcher
    tracker, launcher = (read_option(args, options, kind) for kind in ("tracker", "launcher"))
    fields = {label: settings.resolve(config) for label, config in configs.items()}
    from seqjax.training.join import check_alone, started

    check_alone("seqjax sweep", started()[0])
    use_all_cores(args.devices)
    from seqjax.runs.run import Experiment
    from seqjax.sweeps.index import FIGURE
    from seqjax.sweeps.launching.jobs import JobOptions, check_jobs
    from seqjax.sweeps.launching.state import states, table
    from seqjax.sweeps.planning import Planned, in_sweep
    from seqjax.sweeps.sweeping import run_all

    planned = {}
    for label, each in fields.items():
        variant = ", ".join(part for part in label if not part.startswith("seed="))
        planned[", ".join(label)] = Planned(variant, Experiment(**each))
    if args.print_config or args.dry_run:
        for name, plan in planned.items():
            print(f"# {escape(name or 'all')}\n{dry_run_or_config(args, plan.experiment)}\n")
        return 0
    out = Path(args.out or next(f"runs/sweep-{n}" for n in itertools.count(1) if not Path(f"runs/sweep-{n}").exists()))
    names = in_sweep(out, planned)
    planned = {names[name]: plan for name, plan in planned.items()}
    _check_comparison(args, out, list(planned.values()))
    if args.figure:
        check_figure(Path(args.figure), "--figure ", out)
    if launcher is None and not in_turn and args.devices is None and _pays(list(planned.values()), out):
        launcher = create("launcher", settings.LAUNCHER)
        line("launcher", "local, one run on each core; --launcher none makes them one after the other")
    line("sweep", f"{out} · {counted(len(planned), 'run')}")
    varied = [flag[2:].replace("-", "_") for flag, values in axes.items() if len(values) > 1]
    with print_resume_command("sweep", argv, args, out):
        runs = run_all(planned, varied, out, JobOptions(args.devices, args.checkpoint_seconds, tracker), True, launcher)
    loads = "".join(f" --load {argument(file)}" for file in args.load)
    if len(runs) < len(planned):
        show(table(states(out)))
        line("next", f"{program()} status {argument(out)}")
        check_jobs(out, planned)
        return 0
    line("saved", out)
    print_comparison(_all_runs(out, runs), args.metric, args.against, args.which, args.figure, out / FIGURE)
    line("next", f"{program()} compare {argument(out)} --metric train_loss{loads}")
    return 0


def _pays(planned: Sequence[Any], out: Path) -> bool:
    """Whether a process on each core makes the runs in less time than one after the other on all cores.

    A sweep that was begun goes on as it was begun: runs resume on as many devices as before.
    """
    import jax

    from seqjax.runs.files.folder import INDEX
    from seqjax.sweeps.launching.state import JOBS
    from seqjax.training.devices import num_cores
    from seqjax.training.fit import GradientDescent

    if (out / INDEX).is_file():
        return (out / JOBS).is_dir()
    first = planned[0].experiment
    is_set = "JAX_NUM_CPU_DEVICES" in os.environ  # each job would have as many
    if len(planned) < 2 or num_cores() < 2 or jax.default_backend() != "cpu" or is_set:
        return False
    fit = first.fit()
    if not isinstance(fit, GradientDescent):
        return False
    data = first.prepare()
    num_params = fit.num_params(first.model.problem(data.spec, first.loss))
    # Each parameter takes about 6 operations for each target, forwards and backwards.
    return 6 * num_params * len(data.streams["train"].targets) * first.epochs >= MIN_OPERATIONS


def _check_comparison(args: argparse.Namespace, out: Path, planned: Sequence[Any]) -> None:
    """Checks before training that the metric and the variant of the comparison exist."""
    from seqjax.columns import BY_NAME
    from seqjax.runs.files.folder import INDEX
    from seqjax.runs.run import check_metric
    from seqjax.sweeps.index import read_index
    from seqjax.sweeps.runs import check_variant

    kept = [entry.variant for entry in read_index(out).values()] if (out / INDEX).is_file() else []
    check_variant(args.against, [variant or "all" for variant in [*(plan.variant for plan in planned), *kept]])
    if args.metric is not None:
        of_gradients = (name for plan in planned for name in getattr(plan.experiment.gradient, "metric_names", ()))
        own = (
            f"{part}_{name}" for plan in planned for name in plan.experiment.metrics for part in ("train", "heldout")
        )
        check_metric(args.metric, (*BY_NAME, *dict.fromkeys((*of_gradients, *own))))


def _all_runs(out: Path, runs: Any) -> Any:
    """All runs in the folder. If one of them cannot be opened, prints why, and returns the runs of this command."""
    from seqjax.sweeps.runs import Runs

    try:
        return Runs.open(out)
    except Error as fault:
        print(f"note     only these {len(runs)} runs are shown: {fault}")
        return runs


def _split_axes(argv: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Takes the flags of an experiment, with all their values, out of the arguments."""
    known = {f"--{name.replace('_', '-')}" for name in (*settings.KINDS, *fields_of(settings.Scalars), "seeds")}
    plain: list[str] = []
    axes: dict[str, list[str]] = {}
    into = plain  # the list that takes the values up to the next flag
    for arg in argv:
        if arg == "-h":
            into = plain
        if arg.startswith("--"):
            flag, equals, value = arg.partition("=")
            flag = flag.replace("_", "-")
            is_field = flag[2:].partition(".")[0] in settings.KINDS and "." in flag
            if flag not in known and not is_field:
                into = plain
                plain.append(arg)
                continue
            if flag in axes:
                raise Error(f"{flag} is given twice; give it all its values at once")
            into = axes.setdefault(flag, [])
            into += [value] if equals else []
        else:
            into.append(arg)
    if {"--seed", "--seeds"} <= set(axes):
        raise Error("--seeds and --seed mean the same; give one of them")
    for flag, values in axes.items():
        if not values:
            raise Error(f"{flag}: expects a value\nsee {program()} sweep --help")
        joined = [value for value in values if "," in value.partition(":")[0]]
        if joined and flag[2:] in settings.KINDS:  # no name of a plugin has a comma
            apart = " ".join(joined[0].split(","))
            raise Error(f"{flag} {joined[0]}: the values of a sweep are separated by spaces: {flag} {apart}")
    if "--seeds" in axes:
        _check_seeds(axes["--seeds"])
        axes["--seed"] = [seed for value in axes.pop("--seeds") for seed in value.split(",")]
    for flag, values in axes.items():
        if len(set(values)) < len(values):
            raise Error(f"{flag} has a value twice: {' '.join(values)}")
    return plain, axes


def _check_seeds(values: Sequence[str]) -> None:
    for value in values:
        if span := re.fullmatch(r"(\d+)(?:-|:|\.\.)(\d+)", value):
            first, last = map(int, span.groups())
            listed = ",".join(map(str, range(first, last + 1)[:10]))
            raise Error(f"--seeds {value}: name each seed, such as --seeds {listed or '0,1,2'}")


def _combine(axes: dict[str, list[str]]) -> dict[tuple[str, ...], list[str]]:
    """The flags of each combination, by the labels of the flags that vary; the seed comes last."""
    ordered = sorted(axes, key=lambda flag: flag == "--seed")
    flags_of = {}
    for values in itertools.product(*(axes[flag] for flag in ordered)):
        flags, label = [], []
        for flag, value in zip(ordered, values, strict=True):
            is_kind = flag[2:] in settings.KINDS
            flags.append(f"{flag}={value}")
            if len(axes[flag]) > 1 or flag == "--seed":
                label.append(value if is_kind else f"{flag[2:].replace('-', '_')}={value}")
        flags_of[tuple(label)] = flags
    return flags_of


def _config(parser: Any, flags: list[str]) -> dict[str, Any]:
    """The config of one combination."""
    argv, fields = split_fields(flags)
    return read_config(parser.read(argv), fields)
