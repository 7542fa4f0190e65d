"""`seqjax evaluate`: loss and perplexity of a trained model."""

from collections.abc import Sequence
from pathlib import Path

from seqjax.cli.parser import Parser
from seqjax.data.split import PARTS
from seqjax.errors import Error
from seqjax.plugin.config import create
from seqjax.runs import settings
from seqjax.terminal.shell import program
from seqjax.terminal.show import show
from seqjax.terminal.stream import say

COLUMNS = ("loss", "perplexity", "bits_per_character", "tokens")
"""The columns in their order; others follow."""


def main(argv: Sequence[str]) -> int:
    """Prints loss, perplexity, bits per character and number of targets, one line per part.

    Bits per character are left out if decoding the tokens does not give back the text exactly.
    """
    parser = Parser(
        prog=f"{program()} evaluate",
        description="Loss (nats, or squared error), perplexity and bits per character. Every target is evaluated once, "
        "in order, from the initial state.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--part", choices=PARTS, help="the part of the dataset; default: all parts")
    what.add_argument("--text", metavar="FILE", help="a UTF-8 text file to evaluate instead")
    text = "the parameters: of the last epoch, or of the one with the lowest held-out loss (--keep best)"
    parser.add_argument("--which", choices=("last", "best"), default="last", help=text)
    args = parser.read(argv)

    from seqjax.data.tokenizer import TextCodec
    from seqjax.report.table import Table
    from seqjax.runs.run import Run

    run = Run.open(args.run, args.which)
    if args.text:
        if not Path(args.text).exists():
            raise Error(f"--text {args.text}: there is no such file")
        rows = {"text": run.evaluate(create("dataset", settings.TEXT_FILE, path=args.text).load())}
    else:
        rows = {part: run.evaluate(part) for part in ([args.part] if args.part else PARTS)}
    names = dict.fromkeys(name for row in rows.values() for name in row)
    columns = [*(name for name in COLUMNS if name in names), *(name for name in names if name not in COLUMNS)]
    titles = {"bits_per_character": "bits/char", "tokens": "tokens" if isinstance(run.codec, TextCodec) else "targets"}
    if args.which == "best":
        say(f"best epoch: {run.best_epoch}")
    # A part without targets has no loss.
    lines = [
        [part, *(row.get(name) if row["tokens"] or name == "tokens" else None for name in columns)]
        for part, row in rows.items()
    ]
    show(Table(["part", *(titles.get(name, name) for name in columns)], lines, digits=5))
    return 0
