"""`seqjax generate`: continue a text with a trained model."""

from collections.abc import Sequence

from seqjax.cli.parser import Parser, whole
from seqjax.terminal.shell import program


def main(argv: Sequence[str]) -> int:
    """Prints each prompt and its continuation."""
    parser = Parser(
        prog=f"{program()} generate",
        description="Continue a text with a trained model. Control characters are printed as escapes; in Python, "
        "Run.generate returns the text as it is.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    text = "beginning of the text; default: empty, which is read as token 0; several prompts give several texts"
    parser.add_argument("--prompt", nargs="+", default=[""], metavar="TEXT", help=text)
    parser.add_argument("--length", type=whole, default=200, help="number of tokens to add; default 200")
    text = "0, the default: choose the likeliest token; 1: draw from the probabilities of the model"
    parser.add_argument("--temperature", type=float, default=0.0, help=text)
    parser.add_argument("--top-k", type=whole, metavar="K", help="choose only among the K likeliest tokens")
    text = "choose only among the smallest set of likeliest tokens whose probabilities sum to at least P"
    parser.add_argument("--top-p", type=float, metavar="P", help=text)
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws; default 0")
    parser.add_argument("--unknown", action="store_true", help="allow unknown tokens in prompts, and draw <unk> too")
    text = "the parameters: of the last epoch, or of the one with the lowest held-out loss (--keep best)"
    parser.add_argument("--which", choices=("last", "best"), default="last", help=text)
    args = parser.read(argv)

    from seqjax.runs.run import Run

    options = {name: getattr(args, name) for name in ("top_k", "top_p", "seed", "unknown")}
    for text in Run.open(args.run, args.which).generate(args.prompt, args.length, args.temperature, **options):
        print(text)
    return 0
