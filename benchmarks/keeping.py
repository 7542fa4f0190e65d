"""What it costs to keep a run: checkpoints and hashes during training, and opening many rows or many runs.

    python benchmarks/keeping.py
    python benchmarks/keeping.py --epochs 5 --rows 100000 --runs 100

The first table is of the default job of `seqjax run`: the seconds that each part of keeping it takes, and their share
of the whole run. Samples and learning curve are made at the end of every run, whether its files have hashes or not.
The second table opens metrics of many epochs, and a sweep of many runs of a tiny model. Their files are written by the
same functions as during training.
"""

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path

import jax
from machine import cores, cpu

import seqjax as sj
from seqjax.models import RNN
from seqjax.runs import carry_out, saving, verify
from seqjax.runs.files import checkpoint, folder, rows, store
from seqjax.runs.files.manifest import content_of, read_manifest, write_manifest
from seqjax.runs.settings import CHECKPOINT_SECONDS
from seqjax.samplers import Sequential
from seqjax.sweeps.index import IndexEntry, write_index

PARTS = {
    "files before training": [(carry_out, "locked_folder")],
    "checkpoints": [(checkpoint, "encode"), (store, "save_checkpoint")],
    "rows": [(saving, "append_row")],
    "results and manifest": [(store, "end")],
    "samples and learning curve": [(saving, "result_files")],
}
"""Part of keeping a run -> the functions, where they are called, that do it."""
NOT_KEEPING = "samples and learning curve"


def main() -> None:
    """Prints both tables; with --json also writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the default job")
    parser.add_argument("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", cores())
    print(f"{cpu()} · {cores()} cores\n")
    with tempfile.TemporaryDirectory() as where:
        cost = keeping(Path(where, "default"), args.epochs, args.checkpoint_seconds)
        opened = opening(Path(where), args.rows, args.runs)
    if args.json:
        found = {"cpu": cpu(), "cores": cores(), "keeping": cost, "opening": opened}
        args.json.write_text(json.dumps(found, indent=2) + "\n")


def keeping(path, epochs, checkpoint_seconds):
    """The seconds of each part of keeping the default job, and those of the whole run."""
    print(f"| the default job, {epochs} epochs | seconds | share |\n|---|---|---|")
    seconds = dict.fromkeys(PARTS, 0.0)
    with contextlib.ExitStack() as stack:
        for part, functions in PARTS.items():
            for module, name in functions:
                stack.enter_context(timed(module, name, part, seconds))
        whole = took(lambda: sj.Experiment(epochs=epochs).run(path, checkpoint_seconds=checkpoint_seconds))
    for part, each in seconds.items():
        print(f"| {part} | {each:.3f} | {each / whole:.2%} |")
    kept = sum(each for part, each in seconds.items() if part != NOT_KEEPING)
    print(f"| **all but {NOT_KEEPING}** | {kept:.3f} | {kept / whole:.2%} |\n| the whole run | {whole:.1f} | |\n")
    return {**seconds, "whole": whole}


@contextlib.contextmanager
def timed(module, name, part, seconds):
    """Adds the time of a function to that of a part."""
    function = getattr(module, name)

    def stand_in(*args, **kwargs):
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[part] += time.perf_counter() - began

    setattr(module, name, stand_in)
    try:
        yield
    finally:
        setattr(module, name, function)


def took(work):
    """The seconds that a function takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def opening(where, num_rows, num_runs):
    """The seconds to open many rows, and many runs, and those of the processor, which other work does not lengthen."""
    print("| opening | seconds | of the processor |\n|---|---|---|")
    data = sj.Text("the cat sat on the mat. " * 20)
    run = sj.Experiment(dataset=data, model=RNN(hidden=4), sampler=Sequential(2, 8), epochs=2).run(where / "tiny")
    sweep = where / "sweep"
    copies(run, sweep, num_runs)
    many = [run.metrics[-1] | {"epoch": n} for n in range(1, num_rows + 1)]
    (run.path / folder.METRICS).write_bytes(rows.encode_rows(many))
    work = {
        f"metrics of {num_rows:,} epochs": lambda: rows.read_rows(run.path),
        f"the last of {num_rows:,} rows (`seqjax status`)": lambda: rows.last_row(run.path),
        f"a sweep of {num_runs:,} runs": lambda: sj.Runs.open(sweep),
        f"`seqjax verify` of {num_runs:,} runs": lambda: [verify.verify(path) for path in sweep.glob("seed-*")],
    }
    found = {}
    for name, each in work.items():
        began = time.process_time()
        seconds = took(each)
        found[name] = {"seconds": seconds, "processor": time.process_time() - began}
        print(f"| {name} | {seconds:.2f} | {found[name]['processor']:.2f} |", flush=True)
    return found


def copies(run, sweep, count):
    """A sweep of runs that differ from a run in their seed, and have its results."""
    index, text = {}, (run.path / folder.CONFIG).read_text("utf-8")
    for seed in range(count):
        path = sweep / f"seed-{seed}"
        shutil.copytree(run.path, path)
        (path / folder.CONFIG).write_text(text.replace("\nseed = 0\n", f"\nseed = {seed}\n"), "utf-8")
        manifest = read_manifest(path)
        files = {name: content_of((path / name).read_bytes()) for name in manifest.files}
        write_manifest(path, manifest._replace(files=files))
        index[f"seed={seed}"] = IndexEntry("", seed, path.name)
    write_index(sweep, index)


if __name__ == "__main__":
    main()
