"""`seqjax run`: train a model, and keep the run in a folder."""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from seqjax.cli.importing import quick_imports
from seqjax.errors import Error
from seqjax.plugin import registry
from seqjax.runs import settings
from seqjax.signals import too_early_to_save
from seqjax.terminal.shell import argument, program, quote
from seqjax.terminal.stream import line

DESCRIPTION = """Train a model, and keep the run in a folder.

Every part of a run is a plugin: --model rnn chooses one, --model.hidden 512 sets one of its parameters.
The command {seqjax} list prints the available plugins. Flags may come in any order, and override --config. The same
command resumes an interrupted run. Several seeds, --seeds 0,1,2, make a sweep: see {seqjax} sweep --help.

"batch of 32 over 2 of 2 devices" means that the rows of a batch are spread over two devices, CPU cores or accelerators,
of two that there are. In the line of an epoch, |g| is the mean norm of the gradient before clipping, and left is the
time that is left, in minutes and seconds."""


def main(argv: Sequence[str]) -> int:
    """Reads the flags, trains, and prints the folder of the run and commands to type next."""
    if any(arg.partition("=")[0] == "--seeds" for arg in argv):
        from seqjax.cli.sweep import main as sweep

        return sweep(argv)
    with too_early_to_save():
        run, args = _train(argv)
    if run is not None:
        _say_what_next(run, args.load)
    return 0


def _train(argv: Sequence[str]) -> tuple[Any, argparse.Namespace]:
    """The run that the flags describe, and the flags. If they ask for a text, it is printed, and the run is None."""
    plain, flags = split_fields(argv)
    parser = experiment_parser(f"{program()} run", DESCRIPTION.format(seqjax=program()))
    parser.add_argument("--seeds", metavar="0,1,2", help=f"several seeds: a sweep; see {program()} sweep --help")
    words = "makes the runs of several seeds in other processes"
    parser.add_argument("--launcher", metavar="NAME", help=words)
    args = parser.read(plain)
    choose_platform(args)
    config = read_config(args, flags)
    if args.help:
        parser.epilog = plugin_help(config)
        parser.print_help()
        return None, args
    check_fields(config, flags)
    if args.launcher or "launcher" in flags:
        raise Error(f"--launcher makes several runs: give --seeds 0,1,2, or see {program()} sweep --help")
    tracker = read_option(args, flags, "tracker")
    with quick_imports():
        fields = settings.resolve(config)  # wrong names are found without importing jax
        from seqjax.training.join import join

        use_all_cores(args.devices, join())
        from seqjax.runs.run import Experiment

    experiment = Experiment(**fields)
    if text := dry_run_or_config(args, experiment):
        print(text)
        return None, args
    return _run(experiment, argv, args, tracker), args


def _run(experiment: Any, argv: Sequence[str], args: argparse.Namespace, tracker: Any) -> Any:
    """Runs in the folder of `--out`; without it, in the first free `runs/<dataset>-<model>-<n>`."""
    name = "-".join(registry.name_of(plugin) for plugin in (experiment.dataset, experiment.model))
    from seqjax.training.processes import from_first

    for out in [args.out] if args.out else (Path("runs", f"{name}-{n}") for n in itertools.count(1)):
        try:
            if args.out or not from_first(Path(out).exists()):
                with print_resume_command("run", argv, args, out):
                    return experiment.run(
                        out,
                        devices=args.devices,
                        progress=True,
                        checkpoint_seconds=args.checkpoint_seconds,
                        tracker=tracker,
                    )
        except Error as fault:
            if args.out or fault.exit_code != 5:  # another run took the folder in between
                raise
    raise AssertionError("unreachable: some folder name is always free")


def _say_what_next(run: Any, loaded: Sequence[str]) -> None:
    """Prints a sample, the folder of the run, and commands to type next."""
    from seqjax.runs.trained import NO_SAMPLES

    has_samples = run.samples and NO_SAMPLES not in run.samples
    folder = " ".join([argument(str(run.path)), *(f"--load {argument(file)}" for file in loaded)])
    if has_samples:
        line("sample", f'"{run.samples["temperature 0.8"][:100]}…"')
    if run.ending:
        line("ended", run.ending)
    if run.experiment.keep == "best" and run.best_epoch is not None:
        best = run.metrics[run.best_epoch - 1]
        line("best", f"epoch {run.best_epoch}: held-out loss {best['heldout_loss']:.4g} (--which best)")
    line("saved", run.path)
    if has_samples:
        prompt = run.first_tokens(4)
        # After a space, a prompt that begins with a dash would be read as a flag.
        flag = f"--prompt{'=' if prompt.startswith('-') else ' '}{quote(prompt if prompt.isprintable() else '')}"
        line("next", f"{program()} generate {folder} {flag} --temperature 0.8")
        line("", f"{program()} run --dataset text-file --dataset.path my-book.txt")
    else:
        line("next", f"{program()} evaluate {folder}")
        if run.experiment.gradient:
            line("", f"in Python: seqjax.Run.open({str(run.path)!r}).predict(x)")
