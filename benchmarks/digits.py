"""Accuracy on permuted digits, and seconds of training, beside a GRU of PyTorch of the same size.

    python benchmarks/digits.py

About 13,000 parameters each, 1,437 images for training and 360 held out, 60 epochs of batches of 50 images, Adam with a
cosine schedule from .01 and the global norm clipped at 1. Each run has a core of its own. Seconds are those of training
with compiling. PyTorch is that of training.py.
"""

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine import cores, cpu
from training import torch_python

HIDDEN, BATCH, RATE = 64, 50, 0.01
MODELS = {
    "gru": {"hidden": HIDDEN, "initializer": "uniform"},
    "lru": {"hidden": 45, "residual": True},
    "ssm": {"hidden": 50, "residual": True},
    "min-gru": {"hidden": 49, "residual": True},
}


def main() -> None:
    """Prints the table; with --run, makes one run, and prints its accuracy and seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["torch", *MODELS], choices=["torch", *MODELS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=cores(), help="the number of runs at a time")
    parser.add_argument("--run", nargs=2, metavar=("MODEL", "SEED"), help=argparse.SUPPRESS)
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        model, seed = args.run[0], int(args.run[1])
        run = torch_run(args.images, seed, args.epochs) if model == "torch" else seqjax_run(model, seed, args.epochs)
        return print(json.dumps(run))
    print(f"{cpu()} · {cores()} cores · {args.jobs} runs at a time, each on one core\n")
    print("| model | parameters | held-out accuracy of each seed | median | seconds of a run |\n|---|---|---|---|---|")
    free = queue.SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[: args.jobs]:
        free.put(core)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool:
        images = save_images(Path(folder) / "images.npz")
        for model in args.models:
            runs = list(pool.map(lambda seed, model=model: start(model, seed, images, args, free), range(args.seeds)))
            accuracies, sizes, seconds = zip(*runs, strict=True)
            each = " ".join(f"{a:.1%}" for a in accuracies)
            median = statistics.median(accuracies)
            print(f"| {model} | {sizes[0]:,} | {each} | {median:.1%} | {statistics.median(seconds):.0f} |", flush=True)


def start(model, seed, images, args, free):
    """Makes one run in a process of its own, on a core that is free."""
    python = torch_python() if model == "torch" else sys.executable
    command = [python, __file__, "--run", model, str(seed), "--epochs", str(args.epochs), "--images", str(images)]
    core = free.get()
    try:
        done = subprocess.run(["taskset", "-c", str(core), *command], stdout=subprocess.PIPE, text=True, check=True)
    finally:
        free.put(core)
    return json.loads(done.stdout.splitlines()[-1])


def experiment(model, seed, epochs):
    """The run of seqjax."""
    import seqjax as sj

    return sj.Experiment(
        dataset=sj.create("dataset", "digits", permuted=True),
        train=0.8,
        heldout=0.2,
        sampler=sj.create("sampler", "sentences", batch_size=BATCH, num_steps=64),
        model=sj.create("model", model, **MODELS[model]),
        optimizer=sj.create("optimizer", "adam", learning_rate=RATE, clip_norm=1.0, schedule="cosine"),
        metrics=("last_accuracy",),
        epochs=epochs,
        evaluate_every=epochs,
        seed=seed,
    )


def save_images(file):
    """Writes the images and digits that seqjax reads, in the same parts."""
    import numpy as np

    data = experiment("gru", 0, epochs=1).prepare()
    parts = {}
    for part in ("train", "heldout"):
        stream = data.streams[part]
        parts[f"{part}_x"] = np.asarray(stream.inputs).reshape(-1, 64, 1)
        parts[f"{part}_y"] = np.asarray(stream.targets).reshape(-1, 64)[:, -1]
    np.savez(file, **parts)
    return file


def seqjax_run(model, seed, epochs):
    """Held-out accuracy, the number of parameters, and seconds with compiling."""
    import jax

    to_run = experiment(model, seed, epochs)
    begin = time.perf_counter()
    run = to_run.run()
    size = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    return float(run.metric("heldout_last_accuracy")[-1]), size, time.perf_counter() - begin


def torch_run(images, seed, epochs):
    """The same of a GRU of PyTorch."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    parts = {name: torch.from_numpy(a) for name, a in np.load(images).items()}
    parts = {name: a.float() if name.endswith("x") else a.long() for name, a in parts.items()}
    x, y = parts["train_x"], parts["train_y"]
    begin = time.perf_counter()
    gru, readout = torch.nn.GRU(1, HIDDEN, batch_first=True), torch.nn.Linear(HIDDEN, 10)
    params = [*gru.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(params, lr=RATE)
    updates = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(epochs):
        for at in torch.randperm(len(x)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(readout(gru(x[at])[0][:, -1]), y[at])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        found = readout(gru(parts["heldout_x"])[0][:, -1]).argmax(-1)
    accuracy = (found == parts["heldout_y"]).float().mean().item()
    return accuracy, sum(p.numel() for p in params), time.perf_counter() - begin


if __name__ == "__main__":
    main()
