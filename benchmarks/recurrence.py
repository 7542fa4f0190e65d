"""The gradient of `seqjax.linear_scan`, step by step and in parallel, beside plain code.

    python benchmarks/recurrence.py

The gradient of a loss on all states by a, b and h0, for 8 rows of 64 units. The contenders are timed in turn. The table
shows the median milliseconds of a compiled call, and in brackets the seconds of compiling.
"""

import time

import jax
import jax.numpy as jnp
from machine import cores, cpu
from truncation import measure

import seqjax as sj

STEPS = (64, 512, 4_096)


def own_scan(a, b, h0):
    """Plain code: differentiated by JAX."""

    def step(h, inputs):
        h = inputs[0] * h + inputs[1]
        return h, h

    return jax.lax.scan(step, h0, (a, b))[1]


def own_associative_scan(a, b, h0):
    """Plain code: differentiated by JAX."""
    join = lambda one, two: (two[0] * one[0], two[0] * one[1] + two[1])
    return jax.lax.associative_scan(join, (a, b.at[0].add(a[0] * h0)))[1]


CONTENDERS = {
    "linear_scan": lambda *args: sj.linear_scan(*args, parallel=False)[0],
    "jax.lax.scan": own_scan,
    "linear_scan, parallel": lambda *args: sj.linear_scan(*args, parallel=True)[0],
    "jax.lax.associative_scan": own_associative_scan,
}


def main() -> None:
    """Prints the table."""
    print(f"{cpu()} · {cores()} cores · jax {jax.__version__} · float32\n")
    print("| numbers | steps |" + "".join(f" {name} |" for name in CONTENDERS))
    print("|---|---|" + "---|" * len(CONTENDERS))
    for kind, dtype in {"real": jnp.float32, "complex": jnp.complex64}.items():
        for num_steps in STEPS:
            a, b, h0 = (
                jax.random.normal(jax.random.key(i), shape, dtype)
                for i, shape in enumerate([(num_steps, 8, 64)] * 2 + [(8, 64)])
            )
            args = a / (1 + jnp.abs(a)), b, h0
            compiled, seconds = {}, {}
            for name, run in CONTENDERS.items():
                begin = time.perf_counter()
                compiled[name] = jax.jit(gradient(run)).lower(*args).compile()
                seconds[name] = time.perf_counter() - begin
            times = measure(compiled, args)
            cells = [f"{1e3 * times[name]:,.2f} ({seconds[name]:.1f} s)" for name in CONTENDERS]
            print(f"| {kind} | {num_steps:,} | {' | '.join(cells)} |", flush=True)


def gradient(run):
    """The gradient of a loss on all states."""
    return jax.grad(lambda *args: jnp.sum(jnp.abs(run(*args)) ** 2), (0, 1, 2))


if __name__ == "__main__":
    main()
