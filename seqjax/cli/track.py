"""`seqjax track`: mirrors runs that are there."""

from collections.abc import Sequence
from pathlib import Path

from seqjax.cli.flags import read_plugin
from seqjax.cli.parser import Parser
from seqjax.errors import Error, escape
from seqjax.terminal.shell import program
from seqjax.terminal.stream import line


def main(argv: Sequence[str]) -> int:
    """Sends to a tracker what it lacks of each run, and prints how much was sent."""
    parser = Parser(
        prog=f"{program()} track",
        description="Mirror runs for a viewer, such as TensorBoard: metrics, config, samples and figures. Nothing is "
        "shown twice.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folders of runs and of sweeps")
    text = "the tracker; name:field=value sets a field"
    parser.add_plugin_argument("tracker", "--to", metavar="NAME", required=True, help=text)
    args = parser.read(argv)
    tracker = read_plugin("tracker", args.to)

    from seqjax.runs.files.folder import TRACKING
    from seqjax.runs.files.manifest import check_files
    from seqjax.runs.files.rows import read_rows
    from seqjax.runs.tracking.mirror import ACCOUNT, mirror_run
    from seqjax.sweeps.index import run_folders

    faults, was_sent = [], False
    for path in (path for given in args.runs for path in run_folders(Path(given))):
        try:
            check_files(path)
            rows, files = mirror_run(tracker, path, read_rows(path))
        except Error as fault:
            faults.append(fault)
        else:
            was_sent = was_sent or not (rows or files)
            sent = f"{rows} epoch{'s' * (rows != 1)}, {files} texts and figures" if rows or files else "nothing new"
            print(f"{escape(str(path))}: {sent}", flush=True)
    if was_sent:
        line(
            "note", f"what was sent is listed in {TRACKING}/{ACCOUNT} of each run; without this file all is sent again"
        )
    if faults:
        code = max(fault.exit_code for fault in faults)  # a damaged file counts more than bad input
        raise Error(f"{len(faults)} of the runs were not mirrored:", problems=map(str, faults), exit_code=code)
    return 0
