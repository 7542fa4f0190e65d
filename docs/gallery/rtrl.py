"""Time and memory of exact real-time recurrent learning.

`rtrl` computes the gradient through the whole history, window by window. The lines are its time and its memory, with
what it carries from window to window, divided by the time and memory of `full`, which sees one window. An RNN pays for
each unit. An LRU, whose units read only themselves, does not.
"""

from timeit import repeat

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import seqjax as sj
from seqjax.gradients import RTRL, Batch, Full, init_memory
from seqjax.models import LRU, RNN

T, B, UNITS = 128, 4, (16, 32, 64)
xs = (jax.random.normal(jax.random.key(1), (T, B, 8)), jnp.ones((T, B, 8)))
batch = Batch(xs, jnp.full((T, B), 1 / T / B), None, jnp.arange(B))


def cost(strategy, problem):
    """The seconds of an update, and its bytes."""
    params = problem.init(jax.random.key(0))
    state = problem.init_rows(params, B)
    args = (params, state, init_memory(strategy, problem, params, state, B), batch)
    update = jax.jit(lambda *args: strategy(problem, *args)).lower(*args).compile()
    sizes = update.memory_analysis()
    seconds = repeat(lambda: jax.block_until_ready(update(*args)), number=3, repeat=5)
    return min(seconds), sizes.temp_size_in_bytes + sizes.argument_size_in_bytes


with plt.style.context("seqjax.report.seqjax"):
    figure, panels = plt.subplots(1, 2, figsize=(3.25, 2.3), layout="constrained")
    for name, model, line in (("rnn", RNN, "o-"), ("lru", LRU, "s--")):
        problems = [model(hidden=units).problem(sj.Spec(sj.Values(8))) for units in UNITS]
        ratios = [jnp.divide(jnp.array(cost(RTRL(), p)), jnp.array(cost(Full(), p))) for p in problems]
        for panel, values, what in zip(panels, zip(*ratios, strict=True), ("time", "memory"), strict=True):
            panel.loglog(UNITS, values, line, label=name, base=2)
            panel.set(xlabel="units", ylabel=f"{what} / that of full", xticks=UNITS)
    panels[0].legend()
    figure.savefig("rtrl.png")
