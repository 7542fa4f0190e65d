"""The time and the bytes of truncated and checkpointed gradients.

    python benchmarks/truncation.py

For each case: the milliseconds of one compiled gradient, the median over turns in which the contenders take turns, and
the bytes that it needs besides its arguments and results, according to the compiler. "one pass" cuts the same edges by
weights of 0 in a single reverse pass, which keeps the residuals of all steps. "equinox" is the recursive checkpointing
of Equinox and diffrax on the same work.
"""

import statistics
import time

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from machine import cores, cpu

from seqjax import Problem, Spec, Tokens, WeightedEdges, value_and_grad
from seqjax.gradients import Full, Truncated
from seqjax.models import GRU, LSTM, RNN

TURNS = 9


class OnePass(Truncated):
    """The truncated gradient by edge weights."""

    def gradient(self, *args):
        return WeightedEdges.gradient(self, *args)


def main() -> None:
    """Prints the tables."""
    print(f"{cpu()} · {cores()} cores · jax {jax.__version__} · float32\n")
    print("| case | ms | MB |\n|---|---|---|")
    for name, contenders, args in cases():
        compiled = {key: jax.jit(run).lower(*args).compile() for key, run in contenders.items()}
        seconds = measure(compiled, args)
        sizes = {key: c.memory_analysis().temp_size_in_bytes / 1e6 for key, c in compiled.items()}
        times = ", ".join(f"{key} {1e3 * value:,.1f}" for key, value in seconds.items())
        print(f"| {name} | {times} | {', '.join(f'{key} {value:,.1f}' for key, value in sizes.items())} |", flush=True)


def measure(compiled, args):
    """Median seconds of a call, the contenders taking turns."""
    turns = {key: [] for key in compiled}
    for run in compiled.values():
        jax.block_until_ready(run(*args))
    for _ in range(TURNS):
        for key, run in compiled.items():
            begin = time.perf_counter()
            jax.block_until_ready(run(*args))
            turns[key].append(time.perf_counter() - begin)
    return {key: statistics.median(values) for key, values in turns.items()}


def gradient(problem, strategy):
    """A function that returns loss and gradient."""
    return value_and_grad(problem, strategy, batched=True)


def cases():
    """(name, functions by contender, their arguments)."""
    for num_steps in (5_000, 200_000):
        args = plain(128, num_steps, 8)
        contenders = {"segments": gradient(tanh_step, Truncated(steps=50))}
        if num_steps == 5_000:
            contenders |= {"one pass": gradient(tanh_step, OnePass(steps=50)), "full": gradient(tanh_step, Full())}
        yield f"tanh step, 128 units, T = {num_steps:,}, B = 8, K = 50", contenders, args
    for steps in (10, 35):
        for model in (RNN(hidden=256), GRU(hidden=256), LSTM(hidden=256)):
            problem, args = fused(model, 256, 32)
            contenders = {"truncated": gradient(problem, Truncated(steps=steps))}
            contenders["one pass"] = gradient(problem, OnePass(steps=steps))
            yield f"{type(model).__name__}, 256 units, T = 256, B = 32, K = {steps}", contenders, args
    args = plain(256, 20_000, 8)
    contenders = {"full": Full(), "checkpoint": Full(checkpoint=True)}
    contenders |= {budget: Full(budget=budget) for budget in ("500MB", "50MB", "5MB")}
    contenders = {key: gradient(tanh_step, strategy) for key, strategy in contenders.items()}
    yield "tanh step, 256 units, T = 20,000, B = 8", contenders | {"equinox": equinox_gradient}, args


def tanh_step(params, h, x):
    """A plain scan body."""
    h = jnp.tanh(params["W"] @ h + params["U"] @ x)
    return h, jnp.mean(h**2)


def equinox_gradient(params, h, xs):
    """The full gradient by the checkpointed scan of Equinox, which diffrax uses too; √T checkpoints."""

    def loss(params):
        rows = jax.vmap(tanh_step, (None, 0, 0))
        _, losses = eqxi.scan(lambda h, x: rows(params, h, x), h, xs, kind="checkpointed")
        return losses.mean()

    return jax.value_and_grad(loss)(params)


def plain(hidden, num_steps, num_rows):
    """The arguments of `tanh_step`."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"W": jax.random.normal(keys[0], (hidden, hidden)) / hidden**0.5, "U": jnp.ones((hidden, 4))}
    return params, jnp.zeros((num_rows, hidden)), jax.random.normal(keys[1], (num_steps, num_rows, 4))


def fused(model, num_steps, num_rows):
    """The problem of a model on tokens, and its arguments."""
    spec = Spec(Tokens(28))
    problem = Problem.of(model, spec)
    params = model.init(jax.random.key(0), spec)
    ids = jax.random.randint(jax.random.key(1), (num_steps + 1, num_rows), 0, 28)
    return problem, (params, problem.init_rows(params, num_rows), (ids[:-1], ids[1:]))


if __name__ == "__main__":
    main()
