"""A large text: seconds to encode it, to start again, tokens per second, and the peak of anonymous memory.

    python benchmarks/big_text.py --megabytes 2000

The text is made of random words, some of which are not ASCII. Each step is a process of its own, whose anonymous memory
(that no file backs) is read every tenth of a second. The last line trains on a text of the same length in memory, if it
is shorter than 500 MB.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from machine import cores, cpu

PREPARE = """
import sys, time
from importlib import import_module
began = time.perf_counter()
from seqjax.datasets import TextFile
from seqjax.tokenizers import Char
if sys.argv[2] == "memory":
    import_module("seqjax.data.mapped_text").MAPPED_BYTES = 2**60
prepare = import_module("seqjax.data.preparing")
found = prepare.prepare(TextFile(sys.argv[1]), 0.999, 0.0001, Char())
prepared = time.perf_counter() - began
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[3]))
import seqjax
model = seqjax.create("model", "rnn", hidden=256)
loop = import_module("seqjax.training.loop")
setup = seqjax.Experiment(epochs=1).setup()
chunks = loop.train_in_chunks(model.problem(found.spec), found.streams["train"], setup)
rates = []
while time.perf_counter() - began < prepared + 20:
    _, progress = next(chunks)
    rates.append(progress.updates["tokens"].sum() / progress.epoch_seconds)
print(prepared, rates[-1])
"""


def main() -> None:
    """Prints the table; with --json also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    print(f"{cpu()} · {cores()} cores · {args.megabytes:,} MB\n")
    print("| | seconds to prepare | tokens/s | anonymous MB |\n|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text.txt"
        write_text(file, args.megabytes * 1_000_000)
        steps = [("first start", "file"), ("second start", "file")]
        for name, where in [*steps, *([("in memory", "memory")] if args.megabytes < 500 else [])]:
            seconds, rate, peak = measured(Path(folder), [str(file), where, str(cores())])
            rows.append({"step": name, "seconds": seconds, "tokens_per_second": rate, "anonymous_bytes": peak})
            print(f"| {name} | {seconds:.2f} | {rate:,.0f} | {peak / 1e6:,.0f} |", flush=True)
    if args.json:
        found = {"cpu": cpu(), "cores": cores(), "megabytes": args.megabytes, "big_text": rows}
        args.json.write_text(json.dumps(found, indent=2) + "\n")


def write_text(file, size):
    """Writes random words of about `size` bytes."""
    rng, written = random.Random(0), 0
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz", k=rng.randint(1, 9))) for _ in range(5000)]
    words += ["déjà", "naïve", "—", "“so”"]
    with file.open("w", encoding="utf-8") as out:
        while written < size:
            part = " ".join(rng.choices(words, k=100_000)) + "\n"
            out.write(part)
            written += len(part.encode())


def measured(folder, arguments):
    """The seconds to prepare, tokens per second, and the peak of anonymous memory of a new process, in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE, *arguments],
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    peaks = [0]
    watcher = threading.Thread(target=watch, args=(process, peaks))
    watcher.start()
    out, _ = process.communicate()
    watcher.join()
    seconds, rate = map(float, out.split())
    return seconds, rate, max(peaks)


def watch(process, peaks):
    """Reads the anonymous memory of a process until it ends."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = status.read_text().splitlines() if status.exists() else []
        peaks += [1000 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
        time.sleep(0.1)


if __name__ == "__main__":
    main()
