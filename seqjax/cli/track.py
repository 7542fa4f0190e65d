"""`seqjax track`: mirrors runs that are there."""

from collections.abc import Sequence
from pathlib import Path

from seqjax.cli.flags import read_plugin
from seqjax.cli.parser import Parser
from seqjax.errors import Error, escape


def main(argv: Sequence[str]) -> int:
    """Sends to a tracker what it does not have of each run, and prints how much it was."""
    parser = Parser(
        prog="seqjax track",
        description="Mirror runs for a viewer, such as TensorBoard: metrics, config, samples and figures. Nothing is "
        "shown twice.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folders of runs and of sweeps")
    parser.add_argument("--to", metavar="NAME", required=True, help="the tracker; name:field=value sets a field")
    args = parser.read(argv)
    tracker = read_plugin("tracker", args.to)

    from seqjax.runs import folder
    from seqjax.runs.index import run_folders
    from seqjax.runs.tracking.mirror import mirror_run

    problems = []
    for path in (path for given in args.runs for path in run_folders(Path(given))):
        try:
            rows, files = mirror_run(tracker, path, folder.read_rows(path))
        except Error as fault:
            problems.append(str(fault))
        else:
            sent = f"{rows} epoch{'s' * (rows != 1)}, {files} texts and figures" if rows or files else "nothing new"
            print(f"{escape(str(path))}: {sent}", flush=True)
    if problems:
        raise Error(f"{len(problems)} of the runs were not mirrored:", problems=problems)
    return 0
