"""When do gradients vanish, and when do they explode? (8.7)   python experiments/vanishing.py

The script measures the norm of ∂h_t/∂h_{t-k} by lag k, for recurrent weights of spectral radius .9, 1 and 1.1. In a
linear network, the norm is multiplied by the radius at each step. In a tanh network, it is smaller, since the
derivative of tanh is at most 1: with these inputs, it does not explode even with radius 1.1.
"""

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj


def linear(W, h, x):
    """A state that is linear in the last one."""
    return W @ h + x, jnp.zeros(())


def tanh(W, h, x):
    """A state that goes through tanh."""
    return jnp.tanh(W @ h + x), jnp.zeros(())


NETWORKS = {"linear": linear, "tanh": tanh}
# The growth of the linear network by the spectral radius.
LINEAR_GROWTH = {
    0.9: {"expected": 0.9, "low": 0.895, "high": 0.905},
    1.0: {"expected": 1.0, "low": 0.995, "high": 1.005},
    1.1: {"expected": 1.1, "low": 1.095, "high": 1.105},
}


def draw(seed: int, hidden: int, num_steps: int):
    """Recurrent weights [H, H] of spectral radius 1, and inputs [T, H]."""
    key = jax.random.key(seed)
    W = np.asarray(jax.random.normal(key, (hidden, hidden)), np.float64)
    radius = np.abs(np.linalg.eigvals(W)).max()
    xs = 0.5 * jax.random.normal(jax.random.fold_in(key, 1), (num_steps, hidden))
    return W / radius, xs


def main(hidden: int = 64, max_lag: int = 100, num_steps: int = 600, seeds: int = 3) -> sj.Report:
    drawn = [draw(seed, hidden, num_steps) for seed in range(seeds)]
    start = jnp.zeros(hidden)
    # The Jacobians of ten steps at even distances are enough for a mean.
    every = max(1, num_steps // 10)

    report = sj.Report(__file__)
    for name, step in NETWORKS.items():
        norms = {}
        for radius, linear_growth in LINEAR_GROWTH.items():
            found = []
            for W, xs in drawn:
                weights = jnp.asarray(radius * W, jnp.float32)
                found.append(sj.jacobians(step, weights, start, xs, max_lag, every=every))
            growths = [jacobians.growth for jacobians in found]
            # The growth of a tanh network depends on its inputs.
            expected = linear_growth if name == "linear" else {}
            report.row(f"growth a step, {name}, radius {radius}", growths, **expected)
            norms[f"radius {radius}"] = (np.arange(1, max_lag + 1), [jacobians.mean_norm for jacobians in found])

        figure = sj.plot.averages(
            norms,
            x_label="lag k (steps)",
            y_label=r"norm of $\partial h_t\,/\,\partial h_{t-k}$",
            y_scale="log",
            title=f"{name} network, {hidden} units",
        )
        report.figure(name, figure)
    return report


if __name__ == "__main__":
    sj.script(main)
