"""What XLA makes of the programs for an H100 and a v5e: kernels, launches, collectives and bytes, without either.

    make accelerators
    make accelerators ARGS="--targets h100 --only rnn gru"

Each program is compiled for the device, and its text is read; nothing is executed. The models have 256 units and train
with `full`; the strategies train an RNN of 32 units; windows have 35 steps of 32 rows. On a slice of four chips, the
rows are spread over them. A step is an iteration of a loop over time. An update is an iteration of the loop over
updates; of a program without one, such as `generate`, all launches are counted. It ends with 1 if a limit is exceeded:
`KERNELS`, `LAUNCHES`, `TEMPORARIES`, one collective for an update, loops over time whose length the GPU knows, and what
`seqjax.accelerators.faults` finds. The models of NNX and Equinox are not among the programs.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the devices are not there

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import SingleDeviceSharding

import seqjax as sj
from seqjax.accelerators import faults, innermost, known, read, target
from seqjax.data.sampler import in_order_by_rows
from seqjax.runs.requirements import compile_on
from seqjax.runs.run import Experiment, job_of
from seqjax.training import evaluating, generating
from seqjax.training.first_call import first_call

MODELS = ("rnn", "gru", "lstm", "ind-rnn", "min-gru", "min-lstm", "lru", "ssm", "rtu", "mlp")
TARGETS = ("h100", "v5e", "v5e:2x2")
SIX = ("rnn", "gru", "lru", "truncated", "rtrl", "snap")
"""What is also compiled in bfloat16, and for a slice."""
KERNELS = {"rnn": (4, 5), "gru": (4, 5), "lstm": (5, 6)}
"""The most kernels of a step on an H100, forwards and backwards."""
LAUNCHES = {"rnn": 370, "gru": 370, "lstm": 446, "min-gru": 60, "lru": 75, "ssm": 95}
"""The most launches of an update on an H100."""
TEMPORARIES = {"rnn": 5, "gru": 16, "lstm": 16.5, "sj.scan, truncated": 2, "sj.scan, budget of 8 MB": 8}
"""The most MB of temporaries on an H100."""
TEXT = "the cat sat on the mat, and the dog lay at the door. " * 1500


def main() -> None:
    """Prints the table, and which limits are exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--only", nargs="+", default=(), help="names of programs; all by default")
    args = parser.parse_args()
    print(f"jax {jax.__version__}\n")
    print("| device | program | kernels a step | launches an update | collectives | temporaries MB | compiled in s |")
    print("|---|---|---|---|---|---|---|")
    broken, begin, count = [], time.perf_counter(), 0
    for name in args.targets:
        devices = target(name)
        for case in args.only or (SIX if len(devices.devices) > 1 else every_case()):
            found = check(devices, case)
            broken += [f"{name}, {case}: {fault}" for fault in found]
            count += 1
    print(f"\n{count} programs in {(time.perf_counter() - begin) / 60:.1f} minutes")
    print("\n".join(broken) if broken else "all limits are kept")
    sys.exit(bool(broken))


def every_case():
    """The names of all programs for one device."""
    # The strategies that train an RNN as they are.
    strategies = [name for name in sj.names("gradient") if "/" not in name and name != "full"]
    return [*MODELS, *strategies, *(f"{name}, bfloat16" for name in SIX), *OTHERS]


def check(devices, case):
    """Prints the row of a program, and returns which limits it exceeds."""
    begin = time.perf_counter()
    try:
        compiled, num_donated = compiled_for(devices, case)
    except Exception as fault:  # whatever the compiler raises; the other programs are read
        print(f"| {devices.name} | {case} | does not compile | | | | |", flush=True)
        return [f"{type(fault).__name__}: {str(fault).partition(chr(10))[0]:.300}"]
    seconds, text = time.perf_counter() - begin, compiled.as_text()
    whole = read(text)
    updates = [loop for loop in whole.loops if loop.trips is None]
    launches, loops, collectives = (
        (updates[-1].kernels, updates[-1].inner, updates[-1].collectives)
        if case not in OTHERS
        else (whole.kernels, whole.loops, whole.collectives)
    )
    steps = [f"{loop.kernels}{' backwards' if loop.backward else ''}" for loop in innermost(loops)]
    usage = compiled.memory_analysis()
    # `temp_size_in_bytes` of a TPU is not what it needs at a time.
    temporaries = (usage.peak_memory_in_bytes - usage.argument_size_in_bytes) / 1e6
    on_gpu = devices.platform == "cuda"
    # The text for a TPU does not say how often a loop runs.
    print(
        f"| {devices.name} | {case} | {', '.join(steps) or '–'} | {f'{launches:,}' if on_gpu else '–'} | "
        f"{collectives} | {temporaries:,.1f} | {seconds:.0f} |",
        flush=True,
    )
    broken = faults(text, num_donated)
    if collectives > (len(devices.devices) > 1):
        broken.append(f"{collectives} collectives an update")
    if on_gpu and temporaries > TEMPORARIES.get(case, float("inf")):
        broken.append(f"{temporaries:.1f} MB of temporaries, of {TEMPORARIES[case]} allowed")
    if on_gpu and not known(loops):
        broken.append("the device does not know the length of a loop over time")
    if on_gpu and launches > LAUNCHES.get(case, float("inf")):
        broken.append(f"{launches} launches an update, of {LAUNCHES[case]} allowed")
    if on_gpu and case in KERNELS:
        forward = max(loop.kernels for loop in innermost(loops) if not loop.backward)
        backward = max(loop.kernels for loop in innermost(loops) if loop.backward)
        if forward > KERNELS[case][0] or backward > KERNELS[case][1]:
            broken.append(f"{forward} + {backward} kernels a step, of {KERNELS[case][0]} + {KERNELS[case][1]} allowed")
    return broken


def compiled_for(devices, case):
    """A compiled program, and the number of arrays that are donated to it."""
    return OTHERS[case](devices) if case in OTHERS else epoch(devices, *case.split(", "))


def epoch(devices, name, precision="float32"):
    """An epoch of a model or of a strategy."""
    if name in MODELS:
        model = sj.create("model", name, **({} if name == "mlp" else {"hidden": 256}))
        gradient = sj.create("gradient", "full")
    else:
        model, gradient = sj.create("model", "rnn", hidden=32), sj.create("gradient", name)
    job = job_of(Experiment(dataset=sj.Text(TEXT), model=model, gradient=gradient, precision=precision), 1)
    call = first_call(job.problem, job.data.streams["train"], job.fit.setup)
    return compile_on(devices, call), len(jax.tree.leaves(call.shapes.state))


def compiled(devices, f, *args, num_donated=0, **static):
    """The program of a jitted function of these arguments on one device."""
    (device, *_) = devices.devices
    there = SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda a: a.update(sharding=there), jax.eval_shape(lambda *args: args, *args))
    return devices.compile(f, *shapes, **static), num_donated


def long_scan(gradient):
    """The gradient of a scan of 5,000 steps of an RNN with 128 units and 8 rows."""

    def loss(W, xs_TBI):
        step = lambda h, x: (jnp.tanh(x + h @ W), h)
        return sj.scan(step, jnp.zeros((8, 128)), xs_TBI, gradient=gradient)[1].mean()

    arguments = jnp.zeros((128, 128)), jnp.zeros((5_000, 8, 128))
    return lambda devices: compiled(devices, jax.jit(jax.grad(loss)), *arguments)


def recurrence(devices):
    """The gradient of `linear_scan` over 1,000 steps of 8 rows with 256 units."""
    loss = lambda a, b: jnp.sum(jnp.sin(sj.linear_scan(a, b)[0]))
    arguments = jnp.zeros((1_000, 8, 256)), jnp.zeros((1_000, 8, 256))
    return compiled(devices, jax.jit(jax.grad(loss, (0, 1))), *arguments)


def learner(devices):
    """An update of a learner."""
    problem = sj.create("model", "lru", hidden=256).problem(sj.Spec(sj.Values(3)))
    of = sj.Learner(problem, sj.create("gradient", "rtrl"), optax.adam(0.01))
    state = of.init(jax.random.key(0))
    update = jax.jit(lambda state, x, y: of.update(state, x, y), donate_argnums=0)
    return compiled(devices, update, state, jnp.zeros(3), jnp.zeros(3), num_donated=len(jax.tree.leaves(state)))


def trained_gru():
    """A GRU of 256 units for 27 tokens, with its parameters."""
    model, spec = sj.create("model", "gru", hidden=256), sj.Spec(sj.Tokens(27))
    return model, spec, model.init(jax.random.key(0), spec)


def generation(devices):
    """The program of `generate`, which makes 64 characters or reads those of a prompt."""
    model, spec, params = trained_gru()
    carry = generating._begin(model, spec, params)
    given = jnp.zeros(generating.STEPS, jnp.int32)
    options = 1, jnp.ones(27, bool), jax.random.key(0), 1.0, (27, jnp.inf)
    # Without its static argument, the model.
    go_on = jax.jit(lambda *args: generating._go_on(model, *args), donate_argnums=1)
    return compiled(devices, go_on, params, carry, 0, given, *options, num_donated=len(jax.tree.leaves(carry)))


def evaluation(devices):
    """The program of `evaluate` for 64 windows."""
    model, spec, params = trained_gru()
    ids = np.zeros(64 * evaluating.WINDOW + 1, np.int32)
    stream = sj.data.Stream(ids[:-1], ids[1:], bounds=[0, len(ids) - 1])
    plan = in_order_by_rows(stream.bounds, evaluating.WINDOW, evaluating.ROWS)
    sums = jax.jit(lambda *args: evaluating._sums(model.problem(spec), evaluating.WINDOW, *args))
    return compiled(devices, sums, params, stream._replace(bounds=None), plan)


OTHERS = {
    "sj.scan, full": long_scan(sj.create("gradient", "full")),
    "sj.scan, truncated": long_scan(sj.create("gradient", "truncated", steps=50)),
    "sj.scan, budget of 8 MB": long_scan(sj.create("gradient", "full", budget="8MB")),
    "linear_scan": recurrence,
    "Learner": learner,
    "generate": generation,
    "evaluate": evaluation,
}
"""Programs that are no epochs."""


if __name__ == "__main__":
    main()
