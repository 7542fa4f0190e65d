"""Problems of the literature that show the differences between gradient strategies."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.contract.problem import Problem

INFLUENCE = 0.5 * (np.eye(23) + np.eye(23, k=1)), np.where(np.arange(23) < 10, 1.0, -1.0)
"""The matrix A and the vector b of influence balancing."""
NEURON = (
    {"gNa": float(np.log(50)), "gK": float(np.log(5)), "gL": float(np.log(0.1))},
    {"v": -70.0, "m": 0.0, "h": 1.0, "n": 0.0},
)
"""The parameters of `spiking_neuron`, logarithms of conductances in mS/cm², and its state at rest, v in mV."""


@functools.cache
def influence_balancing(back: int = 1) -> Problem:
    """A linear system with one parameter θ, whose gradient has the wrong sign unless it reaches back 41 steps.

        s_t = A s_{t-1} + θ b,   l_t = ½ (s_t[0] - 1)²

    in 23 dimensions, from s = 1 (Tallec & Ollivier 2018, "Unbiased online recurrent optimization", arXiv:1702.05043).
    Within K steps θ moves s[0] by S_K = Σ_{k<K} (A^k b)[0]. This sum is positive up to K = 40 and converges to -6, so
    that the loss has its minimum, 0, at θ = -1/6.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> problem = sj.testing.influence_balancing()
    >>> theta = jnp.array(-1 / 6)
    >>> _, losses = problem.unroll(theta, problem.init_rows(theta, 1), (jnp.ones((200, 1)), None))
    >>> bool(losses[-1, 0] < 1e-9)
    True

    Args:
        back: each loss is differentiated through the last `back` steps, which are replayed with the current parameter
            from a stored state. This does not depend on what a strategy does with the state that enters a step.

    Returns:
        A problem with θ float[] and x = (c, anything). If c is 0, no step is taken; otherwise the loss is multiplied by
        c.
    """
    A, b = INFLUENCE

    def again(s, taken, theta):
        return jnp.where(taken, A @ s + theta * b, s), None

    def step(theta, state, x):
        past, n = state  # the states before the last `back` steps, and the number of steps so far
        now, _ = again(past[-1], True, theta)
        taken = jnp.arange(back, dtype=jnp.int32) + n >= back - 1
        s, _ = jax.lax.scan(functools.partial(again, theta=theta), past[0], taken)
        # The loss gets the value of the true state, and the derivative of the replayed one, which may differ from it.
        s = now if back == 1 else jax.lax.stop_gradient(now - s) + s
        past = jnp.where(x[0] > 0, jnp.concatenate([past[1:], now[None]]), past)
        return (past, n + 1), x[0] * 0.5 * (s[0] - 1) ** 2

    return Problem(step, lambda theta, key=None: (jnp.ones((back, 23), theta.dtype), jnp.int32(0)))


@functools.cache
def spiking_neuron(dt: float = 0.025) -> Callable:
    """One step of a regular-spiking cortical neuron with sodium, potassium and leak channels.

        C dv/dt = I - gNa m³ h (v - 53) - gK n⁴ (v + 90) - gL (v + 70),   dy/dt = α_y (1 - y) - β_y y   for y = m, h, n

    with v in mV, t in ms and C = 1 µF/cm², and the rates α, β of Traub & Miles at a threshold of -60 mV (Pospischil et
    al. 2008, "Minimal Hodgkin-Huxley type models for different classes of cortical and thalamic neurons"). Exponential
    Euler updates m, h and n, and then v.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> step = sj.testing.spiking_neuron()
    >>> params, rest = jax.tree.map(jnp.float32, sj.testing.NEURON)
    >>> current, target = jnp.full(4000, 5.0), jnp.zeros(4000)  # 100 ms
    >>> _, (_, v) = jax.lax.scan(lambda s, x: step(params, s, x), rest, (current, target))
    >>> int(((v[1:] > 0) & (v[:-1] <= 0)).sum())  # spikes
    14

    Args:
        dt: the length of a step in ms.

    Returns:
        step(params, state, x) -> (state, (loss, v)) for one neuron, with parameters and state as in `NEURON`. The
        parameters are natural logarithms, so that conductances stay positive in a fit. x = (current in µA/cm², target
        in mV), and the loss is the squared error of the new v in (10 mV)².
    """

    def relax(value, end, rate):
        return end + (value - end) * jnp.exp(-dt * rate)

    def step(params, state, x):
        current, target = x
        u, conductance = state["v"] + 60, jax.tree.map(jnp.exp, params)
        rates = {
            "m": (1.28 * _linear_exponential((u - 13) / 4), 1.4 * _linear_exponential((40 - u) / 5)),
            "h": (0.128 * jnp.exp((17 - u) / 18), 4 / (1 + jnp.exp((40 - u) / 5))),
            "n": (0.16 * _linear_exponential((u - 15) / 5), 0.5 * jnp.exp((10 - u) / 40)),
        }
        new = {gate: relax(state[gate], a / (a + b), a + b) for gate, (a, b) in rates.items()}
        open_share = {"gNa": new["m"] ** 3 * new["h"], "gK": new["n"] ** 4, "gL": 1.0}
        g = jnp.stack([conductance[name] * share for name, share in open_share.items()])
        v = relax(state["v"], (g @ jnp.array([53.0, -90.0, -70.0], g.dtype) + current) / g.sum(), g.sum())
        return {"v": v, **new}, (((v - target) / 10) ** 2, v)

    return step


def _linear_exponential(x):
    """x / (1 - exp(-x)), and 1 + x / 2 near 0, where the quotient is 0 / 0."""
    near = jnp.abs(x) < 1e-3
    return jnp.where(near, 1 + x / 2, x / -jnp.expm1(-jnp.where(near, 1, x)))
