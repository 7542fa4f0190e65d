"""Backpropagation through time in numbers small enough to check by hand (8.7)   python experiments/bptt_numbers.py

The recurrence a_t = b_t + c_t a_{t-1}; a network of one unit without a bias, whose three steps are differentiated by
hand in the chapter; and the direction towards which powers of a matrix turn every vector.
"""

import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.report import exactly
from seqjax_gradients import Full


def unit(params, h, x):
    """h = w_x x + w_h h + e_t, o = w_q h; e_t is zero, and its derivative is that of the loss by h_t."""
    t, x, y = x
    h = params["w_x"] * x + params["w_h"] * h + params["e"][t]
    return h, 0.5 * (params["w_q"] * h - y) ** 2


def main() -> sj.Report:
    report = sj.Report(__file__)
    a = 0.0
    for b, c in zip((1, 2, 3, 4), (9, 0.5, 2, 3), strict=True):
        a = b + c * a
    report.row("a_4 of a_t = b_t + c_t a_{t-1}", a, exactly(28))
    params = {"w_x": jnp.array(0.5), "w_h": jnp.array(0.5), "w_q": jnp.array(1.0), "e": jnp.zeros(3)}
    xs = jnp.arange(3)[:, None], jnp.ones((3, 1)), jnp.zeros((3, 1))
    found = sj.value_and_grad(unit, Full())(params, jnp.zeros(1), xs)
    report.row("L, the mean of ½ o_t² over three steps", float(found.loss), exactly(0.2630208))
    for name, expected in (("w_q", 0.5260417), ("w_x", 1.052083), ("w_h", 0.4166667)):
        report.row(f"dL/d{name}", float(found.grads[name]), exactly(expected))
    for t, expected in enumerate((0.3645833, 0.3958333, 0.2916667)):
        report.row(f"dL/dh_{t + 1}", float(found.grads["e"][t]), exactly(expected))
    M, top = np.array([[2.0, 1.0], [1.0, 2.0]]), np.ones(2) / 2**0.5
    for k, expected in ((1, 0.948683), (5, 0.9999915)):
        v = np.linalg.matrix_power(M, k) @ [1.0, 0.0]
        report.row(f"cosine of M^{k} x with the top eigenvector", v @ top / np.linalg.norm(v), exactly(expected))
    return report


if __name__ == "__main__":
    sj.script(main)
