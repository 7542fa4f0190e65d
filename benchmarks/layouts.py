"""Tokens per second of training in each layout and each precision.

    python benchmarks/layouts.py
    python benchmarks/layouts.py --cells lstm --hidden 512

The work is that of training.py. A layout says how the rows of a batch are spread: over one device for each core, or on
one device, whose products use all cores. The four trainings of a row of the table take turns, and the table shows
medians over the turns.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
from machine import cores, cpu
from training import ROWS, STEPS, WINDOWS, seqjax_epochs

COLUMNS = [(devices, precision) for devices in (cores(), 1) for precision in ("float32", "bfloat16")]


def main() -> None:
    """Prints the table; with --json also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["rnn", "gru", "lstm"])
    parser.add_argument("--hidden", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="the length of a turn")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", cores())
    names = [f"{devices} device{'s' * (devices > 1)}, {precision}" for devices, precision in COLUMNS]
    print(f"{cpu()} · {cores()} cores · jax {jax.__version__}\n")
    print("| tokens/s | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    rows = []
    for cell in args.cells:
        for hidden in args.hidden:
            epochs = [seqjax_epochs(cell, hidden, devices=n, precision=precision) for n, precision in COLUMNS]
            for each in epochs:
                next(each)  # compiles
            turns = [[tokens_per_second(each, args.seconds) for each in epochs] for _ in range(args.turns)]
            found = [statistics.median(column) for column in zip(*turns, strict=True)]
            print(f"| {cell}, {hidden} units | " + " | ".join(f"{rate:,.0f}" for rate in found) + " |", flush=True)
            rows.append({"cell": cell, "hidden": hidden, "tokens_per_second": dict(zip(names, found, strict=True))})
    if args.json:
        args.json.write_text(json.dumps({"cpu": cpu(), "cores": cores(), "layouts": rows}, indent=2) + "\n")


def tokens_per_second(epochs, seconds):
    """The rate of as many epochs as fit into some seconds."""
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(epochs)
        count += 1
    return count * WINDOWS * ROWS * STEPS / (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
