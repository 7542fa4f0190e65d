"""`seqjax status`: shows how far the runs of a sweep are."""

from collections.abc import Sequence
from pathlib import Path

from seqjax.cli.parser import Parser
from seqjax.terminal.shell import argument, program
from seqjax.terminal.show import show
from seqjax.terminal.stream import line


def main(argv: Sequence[str]) -> int:
    """Prints a table with a row for each run, and where the logs are if runs have failed."""
    parser = Parser(
        prog=f"{program()} status",
        description="Show how far the runs of a sweep are: queued, running, finished, interrupted, diverged or failed.",
    )
    parser.add_argument("sweep", metavar="SWEEP", help="the folder of a sweep, or of a run")
    args = parser.read(argv)

    from seqjax.runs.files.folder import INDEX
    from seqjax.sweeps.index import run_folders
    from seqjax.sweeps.launching.jobs import ON_ITS_WAY, check_damage
    from seqjax.sweeps.launching.state import ENDED, JOBS, state_of, states, table

    path = Path(args.sweep)
    if (path / INDEX).is_file():
        runs = states(path)
    else:
        (run,) = run_folders(path)  # for its error
        run = run.resolve()
        runs = [state_of(str(path), run, run.parent / JOBS / run.name)]
    show(table(runs))
    if any(state.state == "failed" for state in runs) and (path / JOBS).is_dir():
        line("logs", path / JOBS)
    check_damage(path, runs)
    if any(state.state not in (*ENDED, *ON_ITS_WAY) for state in runs):
        line("next", "the command that began it trains what is missing")
    elif all(state.state in ENDED for state in runs):
        line("next", f"{program()} compare {argument(path)}")
    return 0
