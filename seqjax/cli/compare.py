"""`seqjax compare`: prints a table of several runs, one line per variant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqjax.cli.figure import draw
from seqjax.cli.parser import Parser
from seqjax.extras import why_no_figure
from seqjax.terminal.shell import program
from seqjax.terminal.show import show
from seqjax.terminal.stream import line, say


def main(argv: Sequence[str]) -> int:
    """Prints the table of the runs, and draws the figure of `--figure`."""
    parser = Parser(
        prog=f"{program()} compare",
        description="Compare runs: mean over the seeds of each variant with its 95 % bootstrap interval, after the "
        "last epoch and after the best one; with --against also the difference to one variant, paired by seed. For two "
        "folders of runs, the last line says whether their parameters and metrics are equal to the bit.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folders of runs, or the folder of a sweep")
    add_comparison_flags(parser)
    text = "print the table alone, as LaTeX (which needs booktabs; the best values are bold) or Markdown; default: text"
    parser.add_argument("--format", choices=("text", "latex", "markdown"), default="text", help=text)
    args = parser.read(argv)
    if args.format != "text" and args.figure:
        parser.error(f"--format {args.format} prints a table alone: give --figure to a command of its own")

    from seqjax.runs.equality import equality
    from seqjax.sweeps.runs import Runs

    runs = Runs.open(*args.runs)
    print_comparison(runs, args.metric, args.against, args.which, args.figure, form=args.format)
    if len(args.runs) == 2 and args.format == "text":  # `Runs.open` takes several folders only if each has a run
        say(equality(*runs.values()))
    return 0


def add_comparison_flags(parser: Parser) -> None:
    """Adds the flags of a comparison, which `compare` and `sweep` share."""
    text = "a column of the metrics; default: the perplexity (or loss) of the held-out part, if there is one"
    parser.add_argument("--metric", metavar="NAME", help=text)
    parser.add_argument("--against", metavar="VARIANT", help="the variant to which the others are compared")
    text = "the value of each run: after its last epoch, after the one with its lowest held-out loss, or (default) both"
    parser.add_argument("--which", choices=("last", "best", "both"), default="both", help=text)
    text = "draw the metric by epoch into this file (.png, .svg, .pdf); default for a sweep: a file in its folder"
    parser.add_argument("--figure", metavar="FILE", help=text)


def print_comparison(
    runs: Any,
    metric: str | None,
    against: str | None,
    which: str,
    figure: str | None,
    default_figure: Path | None = None,
    form: str = "text",
) -> None:
    """Prints the table of a comparison, and draws its figure.

    Args:
        runs: the `Runs`.
        metric: a column of the metrics; None: the main one.
        against: the variant to which the others are compared; None: no differences.
        which: `"last"`, `"best"` or `"both"`: the epochs of each run whose value is taken.
        figure: the file that the user named; None: `default_figure`.
        default_figure: the file if the user named none; None: no figure.
        form: `"text"`, `"latex"` or `"markdown"`; the latter two are printed alone.
    """
    from seqjax.sweeps.runs import main_metric

    metric = main_metric(runs.values()) if metric is None else metric
    table = runs.compare(metric, against, which)
    if form != "text":
        print(table.to_latex() if form == "latex" else table.to_markdown(), end="")
        return
    say(_heading(metric, table))
    show(table)
    if not runs.is_comparable(metric):
        line("note", "these runs have different losses: choose another --metric")
    file = figure or default_figure
    if file is default_figure is not None and (why := why_no_figure()):
        line("note", why)
    elif file is not None:
        from seqjax.report import plot

        draw(lambda: plot.runs(runs, x="epoch", y=metric), Path(file), "--figure " if figure else "")


def _heading(metric: str, table: Any) -> str:
    """The line above the table: which values of the metric it has, and their intervals."""
    words = {"last": "last epoch", "best": "best epoch (that with the lowest held-out loss)"}
    epochs = " and ".join(words[epoch] for epoch in words if {epoch, f"{epoch} difference"} & {*table.columns})
    has_interval = max(table["runs"]) > 1
    spread = "and its 95 % interval in brackets" if has_interval else "without an interval, which takes two seeds"
    return f"{metric}{epochs and f', {epochs}'}: mean over seeds, {spread}"
