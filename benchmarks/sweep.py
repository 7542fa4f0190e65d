"""The seconds of a sweep over seeds on a CPU: a process on each core, beside one run after the other.

    python benchmarks/sweep.py
    python benchmarks/sweep.py --model lstm --hidden 128 --seeds 8

Each sweep is a process of `seqjax sweep` with text that comes with Python. All of them find their compiled programs in
the cache, where a short sweep has left them. "Equal" says whether the parameters of each seed are the same bits as in
the first sweep: a run depends on the number of its cores, since sums are split among their threads and devices.
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

from seqjax_launchers.local import affinity, own_cores

SWEEPS = {
    "a process on each core": (cores(), ["--launcher", "local"]),
    "one after the other, one core": (1, ["--launcher", "none", "--devices", "1"]),
    "one after the other, one device": (cores(), ["--launcher", "none", "--devices", "1"]),
    "one after the other, all devices": (cores(), ["--launcher", "none"]),
}
"""Name of a sweep -> the number of cores that it may use, and its flags."""


def main() -> None:
    """Prints the table; with --json also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rnn")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    print(f"{cpu()} · {cores()} cores · {args.model}, {args.hidden} units, {args.seeds} seeds, {args.epochs} epochs\n")
    print("| sweep | seconds | ratio to the first | equal |\n|---|---|---|---|")
    rows, model = [], ["--model", args.model, "--model.hidden", str(args.hidden)]
    flags = [*model, "--epochs", str(args.epochs), "--seeds", ",".join(map(str, range(args.seeds)))]
    with tempfile.TemporaryDirectory() as folder:
        for name, (count, how) in SWEEPS.items():
            sweep(Path(folder), f"short {name}", count, [*model, "--epochs", "1", "--seeds", "0", *how])
        for name, (count, how) in SWEEPS.items():
            seconds, params = sweep(Path(folder), name, count, [*flags, *how])
            rows.append({"sweep": name, "seconds": seconds, "params": params})
            equal = "yes" if params == rows[0]["params"] else "no"
            print(f"| {name} | {seconds:.1f} | {seconds / rows[0]['seconds']:.2f} | {equal} |", flush=True)
    if args.json:
        shown = [{"sweep": row["sweep"], "seconds": row["seconds"]} for row in rows]
        args.json.write_text(json.dumps({"cpu": cpu(), "cores": cores(), "sweeps": shown}, indent=2) + "\n")


def sweep(folder, name, count, flags):
    """The seconds of a sweep on some cores, and the parameters of its runs as bytes, by the run's name."""
    out = Path(folder, name.replace(" ", "-").replace(",", ""))
    begin = time.perf_counter()
    with affinity(own_cores()[:count]):
        subprocess.run(
            [sys.executable, "-m", "seqjax", "sweep", *flags, "--out", str(out)],
            env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    seconds = time.perf_counter() - begin
    return seconds, {file.parent.name: file.read_bytes() for file in sorted(out.glob("*/params.safetensors"))}


if __name__ == "__main__":
    main()
