"""`seqjax evaluate`: loss and perplexity of a trained model."""

from collections.abc import Sequence

from seqjax.cli.parser import Parser

PARTS = ("train", "heldout", "rest")


def main(argv: Sequence[str]) -> int:
    """Prints loss, perplexity and number of targets, a line a part."""
    parser = Parser(
        prog="seqjax evaluate",
        description="Loss in nats and perplexity, in order from one fresh state, every target once.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument("--part", choices=PARTS, help="of the corpus; default: all of them")
    args = parser.read(argv)

    from seqjax.run import Run

    run = Run.open(args.run)
    print("part         loss  perplexity     targets")
    for part in [args.part] if args.part else PARTS:
        row = run.evaluate(part)
        if not row["tokens"]:
            print(f"{part:8}  has no targets")
        else:
            print(f"{part:8}  {row['loss']:7.4f}  {row.get('perplexity', float('nan')):10.4f}  {row['tokens']:10,}")
    return 0
