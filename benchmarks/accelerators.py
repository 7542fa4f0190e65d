"""What XLA makes of the programs for an H100 and a v5e: kernels, launches, collectives and bytes, without either.

    make accelerators
    make accelerators ARGS="--targets h100 --only rnn gru"

Each program is compiled for the device, and its text is read; nothing is executed. The models have 256 units and train
with `full`; the strategies train an RNN of 32 units; windows have 35 steps of 32 rows. A step is an iteration of a loop
over time. An update is an iteration of the loop over updates. On a slice of four chips, the rows are spread over them.
It ends with 1 if a limit is exceeded: `KERNELS`, one collective for an update, loops over time whose length the GPU
knows, and what `seqjax.accelerators.faults` finds. The models of NNX and Equinox are not among the programs.
"""

import argparse
import dataclasses
import os
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the devices are not there

import jax
import numpy as np
from jax.sharding import Mesh

import seqjax as sj
from seqjax.accelerators import faults, innermost, known, read, target
from seqjax.runs.run import Experiment, job_of
from seqjax.training.devices import ROWS
from seqjax.training.epoch import compiled_epoch, shapes_on_devices
from seqjax.training.first_call import first_call

MODELS = ("rnn", "gru", "lstm", "ind-rnn", "min-gru", "min-lstm", "lru", "ssm", "rtu", "mlp")
TARGETS = ("h100", "v5e", "v5e:2x2")
ON_A_SLICE = ("rnn", "gru", "lru", "truncated", "rtrl", "snap")
KERNELS = {"rnn": (5, 5), "gru": (12, 6), "lstm": (15, 6)}
"""The most kernels of a step on an H100, forwards and backwards."""


def main() -> None:
    """Prints the table, and which limits are exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--only", nargs="+", default=(), help="names of models and strategies; all by default")
    args = parser.parse_args()
    print(f"jax {jax.__version__}\n")
    print("| device | trains | kernels a step | launches an update | collectives | temporaries MB | compiled in s |")
    print("|---|---|---|---|---|---|---|")
    broken, begin, count = [], time.perf_counter(), 0
    for name in args.targets:
        devices = target(name)
        for case in args.only or (ON_A_SLICE if len(devices.devices) > 1 else (*MODELS, *strategies())):
            found = check(devices, case)
            broken += [f"{name}, {case}: {fault}" for fault in found]
            count += 1
    print(f"\n{count} programs in {(time.perf_counter() - begin) / 60:.1f} minutes")
    print("\n".join(broken) if broken else "all limits are kept")
    sys.exit(bool(broken))


def strategies():
    """The gradient strategies that train an RNN as they are."""
    return [name for name in sj.names("gradient") if "/" not in name and name != "full"]


def check(devices, case):
    """Prints the row of a program, and returns which limits it exceeds."""
    begin = time.perf_counter()
    try:
        compiled, num_donated = compiled_for(devices, case)
    except Exception as fault:  # whatever the compiler raises; the other programs are read
        print(f"| {devices.name} | {case} | does not compile | | | | |", flush=True)
        return [f"{type(fault).__name__}: {str(fault).partition(chr(10))[0]:.300}"]
    seconds, text = time.perf_counter() - begin, compiled.as_text()
    updates = [loop for loop in read(text).loops if loop.trips is None]
    update = updates[-1]
    steps = [f"{loop.kernels}{' backwards' if loop.backward else ''}" for loop in innermost(update.inner)]
    temporaries = compiled.memory_analysis().temp_size_in_bytes / 1e6
    # The text for a TPU does not say how often a loop runs.
    launches = f"{update.kernels:,}" if devices.platform == "cuda" else "–"
    print(
        f"| {devices.name} | {case} | {', '.join(steps) or '–'} | {launches} | {update.collectives} | "
        f"{temporaries:,.1f} | {seconds:.0f} |",
        flush=True,
    )
    broken = faults(text, num_donated)
    if devices.platform == "cuda" and not known(update.inner):
        broken.append("the device does not know the length of a loop over time")
    if update.collectives > (len(devices.devices) > 1):
        broken.append(f"{update.collectives} collectives an update")
    if devices.platform == "cuda" and case in KERNELS:
        forward = max(loop.kernels for loop in innermost(update.inner) if not loop.backward)
        backward = max(loop.kernels for loop in innermost(update.inner) if loop.backward)
        if forward > KERNELS[case][0] or backward > KERNELS[case][1]:
            broken.append(f"{forward} + {backward} kernels a step, of {KERNELS[case][0]} + {KERNELS[case][1]} allowed")
    return broken


def compiled_for(devices, case):
    """The compiled epoch of a model or a strategy, and the number of arrays in its state."""
    mesh = Mesh(np.array(devices.devices), (ROWS,))
    if case in MODELS:
        model = sj.create("model", case, **({} if case == "mlp" else {"hidden": 256}))
        gradient = sj.create("gradient", "full")
    else:
        model, gradient = sj.create("model", "rnn", hidden=32), sj.create("gradient", case)
    text = sj.Text("the cat sat on the mat, and the dog lay at the door. " * 1500)
    job = job_of(Experiment(dataset=text, model=model, gradient=gradient), 1)
    call = first_call(job.problem, job.data.streams["train"], job.fit.setup).shapes
    program = dataclasses.replace(call.program, mesh=mesh)
    arguments = [shapes_on_devices(each, mesh) for each in call[:-1]]
    return devices.compile(compiled_epoch, *arguments, program=program), len(jax.tree.leaves(call.state))


if __name__ == "__main__":
    main()
