"""Backpropagation through time in numbers small enough to check by hand (8.7)   python experiments/bptt_numbers.py

There are three examples: the recurrence a_t = b_t + c_t a_{t-1}; a network of one unit without a bias, whose gradient
over three steps is derived by hand in the chapter; and powers of a matrix, which turn a vector towards the eigenvector
with the largest eigenvalue.
"""

import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.gradients import Full

GRADIENT = {"w_q": 0.5260417, "w_x": 1.052083, "w_h": 0.4166667}
STATE_GRADIENTS = (0.3645833, 0.3958333, 0.2916667)  # dL/dh_1, dL/dh_2, dL/dh_3
COSINES = {1: 0.9486833, 5: 0.9999915}


def recurrence(bs: tuple[float, ...], cs: tuple[float, ...]) -> float:
    """The last a_t of a_t = b_t + c_t a_{t-1}, from a_0 = 0."""
    a = 0.0
    for b, c in zip(bs, cs, strict=True):
        a = b + c * a
    return a


def unit(params, h, inputs):
    """h_t = w_x x_t + w_h h_{t-1} + e_t, o_t = w_q h_t, and the loss ½ (o_t - y_t)².

    e_t is zero. It is a parameter because the derivative of the loss by e_t is that by h_t.
    """
    t, x, y = inputs
    h = params["w_x"] * x + params["w_h"] * h + params["e"][t]
    return h, 0.5 * (params["w_q"] * h - y) ** 2


def cosine_of_power(k: int) -> float:
    """The cosine between M^k x and the eigenvector of M with the largest eigenvalue, for x = (1, 0)."""
    M = np.array([[2.0, 1.0], [1.0, 2.0]])
    eigenvector = np.ones(2) / 2**0.5
    v = np.linalg.matrix_power(M, k) @ [1.0, 0.0]
    return v @ eigenvector / np.linalg.norm(v)


def main() -> sj.Report:
    params = {"w_x": jnp.array(0.5), "w_h": jnp.array(0.5), "w_q": jnp.array(1.0), "e": jnp.zeros(3)}
    t, x, y = jnp.arange(3), jnp.ones(3), jnp.zeros(3)

    loss, grads = sj.value_and_grad(unit, Full())(params, jnp.array(0.0), (t, x, y))

    report = sj.Report(__file__)
    report.row("a_4 of a_t = b_t + c_t a_{t-1}", recurrence(bs=(1, 2, 3, 4), cs=(9, 0.5, 2, 3)), expected=28)
    report.row("L, the mean of ½ o_t² over three steps", float(loss), expected=0.2630208, tolerance=5e-8)
    for name, expected in GRADIENT.items():
        report.row(f"dL/d{name}", float(grads[name]), expected, tolerance=5e-8 if expected < 1 else 5e-7)
    for step, expected in enumerate(STATE_GRADIENTS):
        report.row(f"dL/dh_{step + 1}", float(grads["e"][step]), expected, tolerance=5e-8)
    for k, expected in COSINES.items():
        report.row(f"cosine of M^{k} x with the top eigenvector", cosine_of_power(k), expected, tolerance=5e-8)
    return report


if __name__ == "__main__":
    sj.script(main)
