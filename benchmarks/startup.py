"""The seconds from the command to the first update and to the line of the first epoch, and the compiled programs.

    python benchmarks/startup.py
    python benchmarks/startup.py --model gru --starts 10
    PYTHONPATH=other:other/plugins python benchmarks/startup.py

The last command measures the seqjax in the folder `other`. Each start is a process of `seqjax run`: of the default
training of a model or, with --hidden, of a shorter one with so many units. At first the cache of compiled programs is
empty at every start; then it is full; then the training also has another number of epochs and another learning rate.
The table shows medians. The seconds of the processor count all threads, so that other work of the machine affects them
less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import cores, cpu

WATCHED = """
import importlib, json, os, sys, time
from seqjax.cli.command import main
from seqjax.cli import run

seen = {"programs": 0, "compiling": 0.0}

def watch(*args):
    use_all_cores(*args)
    import jax
    loop = importlib.import_module("seqjax.training.loop")
    progress = importlib.import_module("seqjax.runs.progress")
    timed, row = loop.timed_call, progress.Display.row

    def timed_call(*args):
        found = timed(*args)
        seen.setdefault("update", time.time() - float(os.environ["BEGAN"]))
        return found

    def show(display, values):
        row(display, values)
        seen["line"] = time.time() - float(os.environ["BEGAN"])
        seen["processor"] = sum(os.times()[:2])
        print("SEEN", json.dumps(seen), file=sys.stderr, flush=True)
        sys.exit(0)  # not os._exit: at the end the compiled programs are recorded

    def compiled(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen["programs"] += 1
            seen["compiling"] += seconds

    def read(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            seen["programs"] -= 1

    jax.monitoring.register_event_duration_secs_listener(compiled)
    jax.monitoring.register_event_listener(read)
    loop.timed_call, progress.Display.row = timed_call, show

use_all_cores, run.use_all_cores = run.use_all_cores, watch
sys.exit(main(sys.argv[1:]))
"""
COLUMNS = {
    "update": "to the first update",
    "line": "to the line of the first epoch",
    "compiling": "compiling or reading programs",
    "processor": "of the processor",
    "programs": "compiled programs",
}


def main() -> None:
    """Prints the table; with --json also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rnn")
    parser.add_argument("--hidden", type=int, help="units of a shorter training; without it, the default training")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    print(f"{cpu()} · {cores()} cores · {args.model}, medians of {args.starts} starts, seconds\n")
    print(f"| cache | {' | '.join(COLUMNS.values())} |\n|---|{'---|' * len(COLUMNS)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder, "full")
        start(full, model_flags(args))
        other = ["--epochs", "3", "--optimizer.learning-rate", "0.3"]
        for name, flags in (("empty", []), ("full", []), ("full, other numbers", other)):
            starts = [
                start(Path(folder, f"empty-{i}") if name == "empty" else full, [*model_flags(args), *flags])
                for i in range(args.starts)
            ]
            row = {column: statistics.median(one[column] for one in starts) for column in COLUMNS}
            rows.append({"cache": name} | row)
            cells = [f"{value:.0f}" if column == "programs" else f"{value:.2f}" for column, value in row.items()]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"cpu": cpu(), "cores": cores(), "startup": rows}, indent=2) + "\n")


def model_flags(args):
    """The flags of a training on text that comes with Python."""
    model = ["--model", args.model]
    if args.hidden is None:
        return model
    return [*model, "--model.hidden", str(args.hidden), "--train", "20000", "--heldout", "2000", "--epochs", "1"]


def start(cache, flags):
    """What was seen from the command to the line of the first epoch, with a folder for the user's cache."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-P", "-c", WATCHED, "run", *flags, "--out", str(Path(folder, "run"))],
            env=own | {"XDG_CACHE_HOME": str(cache), "BEGAN": str(time.time())},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    line = next(line for line in done.stderr.splitlines() if line.startswith("SEEN"))
    return json.loads(line.removeprefix("SEEN"))


if __name__ == "__main__":
    main()
