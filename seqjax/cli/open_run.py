"""`open_run`: opens the run that a verb is given."""

import sys
from pathlib import Path
from typing import Any

from seqjax.terminal.stream import line


def open_run(path: str | Path, which: Any = "last") -> Any:
    """The run in a folder, as `Run.open` opens it. If files of it were changed by hand, says so on stderr."""
    from seqjax.runs.run import Run

    run = Run.open(path, which)
    if run.changed:
        line("note", f"{path}: changed by hand: {', '.join(run.changed)}", sys.stderr)
    return run
