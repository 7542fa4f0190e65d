"""`seqjax measure`: bias, variance and cost of gradient strategies at a run's parameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqjax.cli.flags import read_plugins
from seqjax.cli.parser import Parser, whole
from seqjax.files import disk_errors, write
from seqjax.terminal.shell import program
from seqjax.terminal.stream import line

DESCRIPTION = """Bias, variance, direction, seconds and bytes of gradient strategies on the first windows of a run.

Fields of a strategy follow its name, each after a colon: --gradient full truncated:steps=10 artbp:length=8:alpha=3.
Errors are standard errors. history_bias is the bias relative to the gradient through all windows. This command prints
the definitions of all columns: python -c 'from seqjax.diagnostics import Measures; help(Measures)'"""

FIGURES = ("bias", "snr", "alignment", "cost")
"""The figures that are drawn; see `Measures.plot`."""


def main(argv: Sequence[str]) -> int:
    """Prints a table; with `--out` writes it as CSV and JSON, and the figures."""
    parser = Parser(prog=f"{program()} measure", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    text = "the strategies; default: the run's own"
    parser.add_plugin_argument("gradient", "--gradient", nargs="+", metavar="NAME", help=text)
    parser.add_argument("--draws", type=whole, default=100, help="number of draws of each random strategy; default 100")
    text = "number of consecutive windows, between which state and memory are carried; default 3"
    parser.add_argument("--windows", type=whole, metavar="N", help=text)
    text = "init: the parameters before the first update; end, the default: the parameters of the run"
    parser.add_argument("--at", choices=("init", "end"), default="end", help=text)
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws; default 0")
    text = "folder for measures.csv, measures.json and the figures; default: they are not written"
    parser.add_argument("--out", metavar="DIR", help=text)
    args = parser.read(argv)

    from seqjax.runs.run import Run

    strategies = read_plugins("gradient", args.gradient or [])

    run = Run.open(args.run)
    measured = strategies or [run.experiment.setup().gradient]
    measures = run.measure(measured, draws=args.draws, windows=args.windows, at=args.at, seed=args.seed)
    print("{} windows of {} steps, {} rows".format(*measures.shape))
    print(measures)
    if args.out:
        _write(measures, Path(args.out))
        line("saved", args.out)
    return 0


def _write(measures: Any, out: Path) -> None:
    """Writes table, numbers and figures into a folder."""
    from seqjax.report import Table
    from seqjax.report.figure import image_bytes

    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        for kind in ("png", "svg"):
            write(out / f"{name}.{kind}", image_bytes(measures.plot(name), kind))
    write(out / "measures.csv", Table(measures.columns, measures.rows).to_csv())
    write(out / "measures.json", measures.to_json())
