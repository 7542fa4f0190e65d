"""`seqjax compare`: several runs side by side."""

from collections.abc import Sequence
from typing import Any

from seqjax.cli.parser import Parser


def main(argv: Sequence[str]) -> int:
    """Prints a table of the runs."""
    parser = Parser(
        prog="seqjax compare",
        description="Compare runs: median, lowest and highest over the seeds of each arm, and with --against the mean "
        "difference to one arm, paired by seed, with its 95 % bootstrap interval.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folders of runs, or the folder of a sweep")
    add_comparison_flags(parser)
    args = parser.read(argv)

    from seqjax.runs import Runs

    show(Runs.open(*args.runs), args.metric, args.against)
    return 0


def add_comparison_flags(parser: Parser) -> None:
    """The flags that say what is compared."""
    text = "a column of the metrics; default: the held-out perplexity, or loss"
    parser.add_argument("--metric", metavar="NAME", help=text)
    parser.add_argument("--against", metavar="ARM", help="the arm to which the others are compared")


def show(runs: Any, metric: str | None, against: str | None) -> None:
    """Prints the table of a comparison."""
    has_perplexity = any("heldout_perplexity" in run.metrics[0] for run in runs.values() if run.metrics)
    metric = metric or ("heldout_perplexity" if has_perplexity else "heldout_loss")
    table = runs.compare(metric, against)
    print(f"{metric}, last epoch\n{table}")
