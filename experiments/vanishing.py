"""When do gradients vanish, and when do they explode? (8.7)   python experiments/vanishing.py

The norm of ∂h_t/∂h_{t-k} by lag k, for recurrent weights with spectral radius .9, 1 and 1.1. In a linear network it
follows the radius. The derivative of tanh is at most 1, and with these inputs even radius 1.1 does not explode.
"""

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.report import between


def linear(W, h, x):
    """A state that is linear in the last one."""
    return W @ h + x, jnp.zeros(())


def tanh(W, h, x):
    """A state that goes through tanh."""
    return jnp.tanh(W @ h + x), jnp.zeros(())


def draw(seed, hidden, num_steps):
    """Recurrent weights [H, H] of spectral radius 1, and inputs [T, 1, H]."""
    W = np.asarray(jax.random.normal(jax.random.key(seed), (hidden, hidden)), np.float64)
    xs = 0.5 * jax.random.normal(jax.random.fold_in(jax.random.key(seed), 1), (num_steps, 1, hidden))
    return W / np.abs(np.linalg.eigvals(W)).max(), xs


def main(hidden: int = 64, max_lag: int = 100, num_steps: int = 600, seeds: int = 3) -> sj.Report:
    report, every = sj.Report(__file__), max(1, num_steps // 10)
    drawn, zero = [draw(seed, hidden, num_steps) for seed in range(seeds)], jnp.zeros((1, hidden))
    for name, step in (("linear", linear), ("tanh", tanh)):
        norms = {}
        for r in (0.9, 1.0, 1.1):
            found = [
                sj.jacobians(step, jnp.asarray(r * W, jnp.float32), zero, xs, max_lag, every=every) for W, xs in drawn
            ]
            norms[f"radius {r}"] = (np.arange(1, max_lag + 1), [norms_of.mean_norm for norms_of in found])
            expected = between(f"{r - 0.005:.3f}", f"{r + 0.005:.3f}", about=f"{r}") if name == "linear" else ""
            report.row(f"growth a step, {name}, radius {r}", [norms_of.growth for norms_of in found], expected)
        labels = {"x_label": "lag k (steps)", "y_label": r"norm of $\partial h_t\,/\,\partial h_{t-k}$"}
        report.figure(name, sj.plot.averages(norms, **labels, y_scale="log", title=f"{name} network, {hidden} units"))
    return report


if __name__ == "__main__":
    sj.script(main)
