"""The cost of `seqjax.lags`, in gradients of the same window.

    python benchmarks/lags.py
    python benchmarks/lags.py --cases 2

For each case: the time of one `value_and_grad` with full backpropagation, the time of `lags`, their quotient beside
K + 2, and the temporary bytes of `lags`. Times are medians of calls that alternate; compiling is not counted.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp

import seqjax
from seqjax import Problem, Spec, Tokens
from seqjax.gradients import Full
from seqjax.models import GRU, LSTM, RNN

# model, T, B, K
CASES = [
    (RNN(hidden=256), 1000, 1, 200),
    (RNN(hidden=256), 1000, 8, 200),
    (RNN(hidden=32), 1000, 1, 10),
    (RNN(hidden=32), 256, 8, 20),
    (RNN(hidden=256), 64, 32, 20),
    (GRU(hidden=64), 256, 8, 50),
    (LSTM(hidden=128), 128, 32, 20),
]


def main() -> None:
    """Prints one row for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=int, choices=range(len(CASES)), default=range(len(CASES)))
    args = parser.parse_args()
    print("| model | T | B | K | value_and_grad | lags | quotient | K + 2 | temporary |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model, num_steps, num_rows, max_lag in map(CASES.__getitem__, args.cases):
        problem = Problem.of(model, Spec(Tokens(28)))
        params = model.init(jax.random.key(0), problem.spec)
        state = jax.vmap(lambda _, p=problem, params=params: p.init_state(params))(jnp.arange(num_rows))
        ids = jax.random.randint(jax.random.key(1), (num_steps + 1, num_rows), 0, 28)
        inputs = params, state, (ids[:-1], ids[1:])
        gradient = jax.jit(seqjax.value_and_grad(problem, Full(), batched=True)).lower(*inputs).compile()
        lags_of = functools.partial(seqjax.lags, problem, max_lag=max_lag, batched=True)
        by_lag = jax.jit(lags_of).lower(*inputs).compile()
        # One call of `lags` takes as long as many gradients, which are timed several times for each.
        one, all_lags = [], []
        for _ in range(5):
            one += [seconds(gradient, inputs) for _ in range(5)]
            all_lags.append(seconds(by_lag, inputs))
        one, all_lags = statistics.median(one), statistics.median(all_lags)
        temporary = by_lag.memory_analysis().temp_size_in_bytes / 1e6
        print(
            f"| {type(model).__name__} {model.hidden} | {num_steps} | {num_rows} | {max_lag} | {one * 1e3:.2f} ms "
            f"| {all_lags * 1e3:.1f} ms | {all_lags / one:.1f} | {max_lag + 2} | {temporary:.0f} MB |",
            flush=True,
        )


def seconds(compiled, args):
    """The seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(compiled(*args))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
