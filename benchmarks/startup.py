"""The seconds from the command to the first update, at the first start and at later ones.

    python benchmarks/startup.py
    python benchmarks/startup.py --model lstm --hidden 512

Each start is a process of `seqjax run` with a cache of compiled programs that is empty at first. The time ends when the
first chunk of training has been computed. The last start has another number of epochs and another learning rate.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import cores, cpu

WATCHED = """
import importlib, os, sys, time
from seqjax.cli.command import main
from seqjax.cli import run

def watch(*args):
    use_all_cores(*args)
    loop = importlib.import_module("seqjax.training.loop")
    timed, seen = loop._timed_call, []

    def call(*args):
        found = timed(*args)
        if not seen:
            print("FIRST", time.time() - float(os.environ["BEGAN"]), found[2][0], file=sys.stderr)
        seen.append(1)
        return found

    loop._timed_call = call

use_all_cores, run.use_all_cores = run.use_all_cores, watch
sys.exit(main(sys.argv[1:]))
"""


def main() -> None:
    """Prints the table; with --json also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rnn")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    print(f"{cpu()} · {cores()} cores · {args.model}, {args.hidden} units\n")
    print("| start | seconds to the first update | of them compiling |\n|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        other = ["--epochs", "3", "--optimizer.learning-rate", "0.3"]
        for name, flags in (("first", []), ("second", []), ("third", []), ("other numbers", other)):
            begun, compiling = start(Path(folder), name, [*model_flags(args), *flags])
            rows.append({"start": name, "seconds": begun, "compiling": compiling})
            print(f"| {name} | {begun:.2f} | {compiling:.2f} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"cpu": cpu(), "cores": cores(), "startup": rows}, indent=2) + "\n")


def model_flags(args):
    """The flags of a short training on text that comes with Python."""
    model = ["--model", args.model, "--model.hidden", str(args.hidden)]
    return [*model, "--train", "20000", "--heldout", "2000", "--epochs", "1"]


def start(folder, name, flags):
    """The seconds to the first update, and those of them that compiling took."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "run", *flags, "--out", str(folder / name)],
        env=own | {"XDG_CACHE_HOME": str(folder / "cache"), "BEGAN": str(time.time())},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = next(line for line in done.stderr.splitlines() if line.startswith("FIRST"))
    return tuple(map(float, line.split()[1:]))


if __name__ == "__main__":
    main()
