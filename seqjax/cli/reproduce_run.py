"""`seqjax reproduce RUN`: trains a run again in another folder, and says whether the results are equal."""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqjax.cli.flags import print_resume_command, use_all_cores
from seqjax.errors import Error
from seqjax.signals import Ended
from seqjax.terminal.stream import line, say

WITHIN = """No leaf of the parameters and no column of the metrics differs by more than {tolerance:g} of its largest
entry. Another number of devices, another processor or another version of jax adds numbers in another order, and
training enlarges the difference: with 64 units, one device in place of two gave 0.006 after 445 updates, and a learning
rate of 1.001 in place of 1 gave 0.2."""

DIFFERENT = """{path} is not reproduced: {parts} differ by more than the tolerance, {tolerance:g} of the largest entry
Number of epochs from the first one in which all metrics are equal within it: {epochs}. A difference in the first epoch
has another cause than rounding, such as another learning rate; a long training may enlarge a rounding beyond it
{where}"""
OTHERWISE = """{path} is not reproduced: {parts} differ, and all numbers are equal within the tolerance
{where}"""


def reproduce_run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Trains the run in a folder again, and prints the table of the differences.

    Args:
        args: `folder`, the folder of the run, and `out`, the folder in which it is trained again; None: a temporary
            one.
        argv: the arguments of the command, which resumes it.
    """
    path = Path(args.folder)
    from seqjax.runs.environment import read_environment
    from seqjax.runs.files.folder import is_run
    from seqjax.training.devices import num_cores

    devices = read_environment(path).devices if is_run(path) else 1
    use_all_cores(devices if devices > num_cores() else None)

    from seqjax.report.table import Table
    from seqjax.runs.reproduce import TOLERANCE, check_reproducible, reproduce
    from seqjax.runs.run import Run

    run = Run.open(path)
    with _folder(args, argv) as made:
        check_reproducible(run, made)
        if run.stopped_at is not None:
            line("note", f"its callback ended training after epoch {run.stopped_at}, and so this training ends there")
        compared = reproduce(run, made, progress=True)
    rows = [
        [part.part, part.compared, "yes" if part.equal else "no", part.absolute or None, part.relative or None]
        for part in compared.parts
    ]
    print(f"\n{Table(['part', 'compared', 'equal', 'largest difference', 'relative'], rows)}\n")
    for change in compared.environment:
        line("differs", change)
    if compared.is_bitwise:
        line("result", "bitwise equal")
        return 0
    wrong = compared.different
    if not wrong:
        line("result", "equal within tolerance")
        print(WITHIN.format(tolerance=TOLERANCE))
        return 0
    line("result", "different")
    where = f"The other run is in {args.out}" if args.out else "With --out DIR, the other run is kept"
    text = DIFFERENT if any(part.relative is not None for part in wrong) else OTHERWISE
    parts = ", ".join(part.part for part in wrong)
    raise Error(
        text.format(path=path, parts=parts, tolerance=TOLERANCE, epochs=compared.equal_epochs, where=where), exit_code=4
    )


@contextlib.contextmanager
def _folder(args: argparse.Namespace, argv: Sequence[str]) -> Iterator[Path]:
    """The folder in which the run is trained again. After a signal, says whether that training can go on."""
    if args.out is not None:
        with print_resume_command("reproduce", argv, args, args.out):
            yield Path(args.out)
        return
    with tempfile.TemporaryDirectory(prefix="seqjax-") as made:
        try:
            yield Path(made, "run")
        except (KeyboardInterrupt, SystemExit) as fault:
            words = "the temporary folder is removed; with --out DIR, the same command goes on after an interruption"
            if isinstance(fault, KeyboardInterrupt):  # its text may say that the run is saved in this folder
                fault.args = (f"{fault if isinstance(fault, Ended) else 'interrupted'}: {words}",)
            else:
                say(words, sys.stderr)
            raise
