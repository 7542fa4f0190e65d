"""The time and the bytes of `seqjax.scan` beside `jax.lax.scan`, and of `first_nonfinite` beside a forward pass.

    python benchmarks/scan.py

A tanh RNN of 128 units and 8 rows, a loss on the outputs of all steps, its gradient by the weights. For each number of
steps: milliseconds of a compiled call, the median over turns in which the contenders take turns, and the megabytes that
it needs besides its arguments and results, according to the compiler.
"""

import time

import jax
import jax.numpy as jnp
from machine import cores, cpu
from truncation import fused, measure, plain

import seqjax
from seqjax.gradients import K1K2, Full, Randomized, Truncated
from seqjax.models import RNN

STRATEGIES = {
    "full": Full(),
    "full, 8 MB": Full(budget="8MB"),
    "truncated(50)": Truncated(steps=50),
    "k1k2(50, 100)": K1K2(k1=50, k2=100),
    "randomized(.9)": Randomized(keep_prob=0.9),
}


def main() -> None:
    """Prints the tables."""
    print(f"{cpu()} · {cores()} cores · jax {jax.__version__} · float32\n")
    print("| steps | gradient | ms | MB |\n|---|---|---|---|")
    for num_steps in (5_000, 50_000):
        args = plain(128, num_steps, 8)
        contenders = {"jax.lax.scan": gradient(own_scan)}
        contenders |= {key: gradient(by_strategy(strategy)) for key, strategy in STRATEGIES.items()}
        print_rows(f"{num_steps:,}", contenders, args)
    print("\n| steps | call | ms | MB |\n|---|---|---|---|")
    problem, args = fused(RNN(hidden=128), 10_000, 8)
    print_rows("10,000", {"loss alone": lambda *args: jnp.mean(problem.unroll(*args)[1])}, args)
    # The program for the problem of a model is kept, so that the second call compiles nothing.
    for name in ("first_nonfinite, compiling", "first_nonfinite, all finite"):
        begin = time.perf_counter()
        seqjax.first_nonfinite(problem, *args, batched=True)
        print(f"| 10,000 | {name} | {1e3 * (time.perf_counter() - begin):,.0f} | |")


def own_scan(f, init, xs):
    """The contender."""
    return jax.lax.scan(f, init, xs)


def by_strategy(strategy):
    """A scan whose gradient is that of a strategy."""
    return lambda f, init, xs: seqjax.scan(f, init, xs, gradient=strategy, key=jax.random.key(0))


def loss(scan, params, h_BH, xs_TBI):
    """A mean over the outputs of all steps."""

    def f(h_BH, x_BI):
        h_BH = jnp.tanh(h_BH @ params["W"].T + x_BI @ params["U"].T)
        return h_BH, jnp.mean(h_BH**2)

    return jnp.mean(scan(f, h_BH, xs_TBI)[1])


def gradient(scan):
    """The gradient of `loss` by the parameters."""
    return lambda params, h, xs: jax.grad(lambda params: loss(scan, params, h, xs))(params)


def print_rows(steps, contenders, args) -> None:
    """Measures the contenders, and prints a row for each."""
    compiled = {key: jax.jit(run).lower(*args).compile() for key, run in contenders.items()}
    for key, seconds in measure(compiled, args).items():
        size = compiled[key].memory_analysis().temp_size_in_bytes
        print(f"| {steps} | {key} | {1e3 * seconds:,.0f} | {size / 1e6:,.1f} |", flush=True)


if __name__ == "__main__":
    main()
