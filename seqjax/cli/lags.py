"""`seqjax lags`: splits the gradient of a trained model by lag."""

from collections.abc import Sequence
from pathlib import Path

from seqjax.cli.figure import check_figure, draw
from seqjax.cli.parser import Parser, whole
from seqjax.errors import Error, check_all, counted
from seqjax.extras import why_no_figure
from seqjax.terminal.shell import program
from seqjax.terminal.stream import line


def main(argv: Sequence[str]) -> int:
    """Prints bias and norm by lag, and writes the figure into the run's folder."""
    parser = Parser(
        prog=f"{program()} lags",
        description="Split the gradient of a trained model by how many steps back it travels, and print the relative "
        "bias of keeping fewer steps. The rows are spread over the training part; each starts in the initial state. "
        "The gradient by lag takes (max-lag + 1) times the bytes of the parameters.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--max-lag", type=whole, default=50, metavar="K", help="largest lag that is listed (default: 50)"
    )
    parser.add_argument("--steps", type=whole, metavar="T", help="time steps of each row (default: 4 times --max-lag)")
    text = "number of rows (default: 8, or fewer where the training part is short)"
    parser.add_argument("--rows", type=whole, metavar="B", help=text)
    parser.add_argument("--figure", metavar="FILE", help="file of the figure (default: lags.png in the run's folder)")
    args = parser.read(argv)

    from seqjax.data.windows import whole_windows
    from seqjax.runs.run import Run
    from seqjax.runs.trained import ROWS

    steps = 4 * args.max_lag if args.steps is None else args.steps
    is_true = {
        f"--max-lag {args.max_lag}: must be at least 1": args.max_lag >= 1,
        f"--rows {args.rows}: must be at least 1": args.rows is None or args.rows >= 1,
        f"--steps {steps}: must be more than --max-lag {args.max_lag}": steps > args.max_lag or args.max_lag < 1,
    }
    check_all("seqjax lags cannot run:", is_true)

    if args.figure:
        check_figure(Path(args.figure), "--figure ")

    run = Run.open(args.run)
    stream = run.prepared.streams["train"]
    windows = len(whole_windows(stream, steps))
    if not windows:
        longest = (stream.bounds[1:] - stream.bounds[:-1]).max()
        flags = f"--max-lag {max(1, longest // 2)} --steps {longest}"
        raise Error(f"no document of the training part has {steps} steps, as each row does; give {flags}")
    rows = min(ROWS, windows) if args.rows is None else args.rows
    if rows > windows:
        raise Error(f"--rows {rows}: the training part has {counted(windows, 'window')} of {steps} steps; give no more")
    report = run.lags(args.max_lag, num_rows=rows, num_steps=steps)
    print(f"{counted(rows, 'row')} of {steps} steps")
    print(report)
    if not args.figure and (why := why_no_figure()):
        line("note", why)
    else:
        file = Path(args.figure or Path(args.run, "lags.png"))
        draw(lambda: report.plot(str(args.run)), file, "--figure " if args.figure else "")
    return 0
