"""Truncation against memory.

An exact gradient can also be made to fit in memory: checkpoints keep the states at a few steps, and compute the others
again, which takes time. Each point is a way to differentiate the same scan of 2,000 steps: the temporary memory of the
compiled gradient, and its relative error.
"""

import jax
import jax.numpy as jnp

import seqjax as sj
from seqjax.gradients import Full, Truncated


def step(params, state, x):
    """A network of 64 units, which forget slowly."""
    state = 0.95 * state + 0.1 * jnp.tanh(params @ state + x)
    return state, jnp.mean(state**2)


params, start = 0.3 * jax.random.normal(jax.random.key(0), (64, 64)) / 8, jnp.zeros(64)
xs = jax.random.normal(jax.random.key(1), (2000, 64))
ways = {"full": Full(), "1 level": Full(levels=1), "3 levels": Full(levels=3)}
ways |= {f"cut after {k}": Truncated(steps=k) for k in (10, 100, 400)}
points, exact = {}, None
for name, strategy in ways.items():
    gradient = jax.jit(sj.value_and_grad(step, strategy)).lower(params, start, xs).compile()
    _, grads = gradient(params, start, xs)
    exact = grads if exact is None else exact
    error = jnp.linalg.norm(grads - exact) / jnp.linalg.norm(exact)
    points[name] = (gradient.memory_analysis().temp_size_in_bytes / 1e6, float(error))
figure = sj.plot.points(points, x_label="MB", y_label="relative error", x_scale="log", figsize=(3.25, 2.3))
figure.savefig("truncation.png")
