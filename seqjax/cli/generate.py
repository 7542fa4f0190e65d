"""`seqjax generate`: continue a text with a trained model."""

import sys
from collections.abc import Sequence

from seqjax.cli.parser import Parser


def main(argv: Sequence[str]) -> int:
    """Prints the prompt and its continuation."""
    parser = Parser(prog="seqjax generate", description="Continue a text with a trained model.")
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument("--prompt", default="", help="how the text begins; empty: from the model's start")
    parser.add_argument("--length", type=int, default=200, help="tokens to add; default 200")
    text = "0, the default: the likeliest token; 1: as the model thinks"
    parser.add_argument("--temperature", type=float, default=0.0, help=text)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of tokens; default 0")
    args = parser.read(argv)

    from seqjax.display import escape
    from seqjax.run import Run

    text = Run.open(args.run).generate(args.prompt, args.length, args.temperature, args.seed)
    print(escape(text, keep="\n\t") if sys.stdout.isatty() else text)
    return 0
