"""`last` against a Python loop whose early steps are constants."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.gradients import Last
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

T = 7
RNG = np.random.default_rng(1)
W, S, XS = RNG.normal(size=(2, 2)), RNG.normal(size=2), RNG.normal(size=(T, 2))
RESET = np.arange(T) == 4


def f(W):
    return lambda s, x: ((s := jnp.sin(W @ s + x)), jnp.sum(s**2))


def loop(W, s, xs, initial, steps, reverse=False, reset=None):
    """The last carry and all y; what lies before the last `steps` executed steps is a constant."""
    ys = [jnp.zeros(())] * T
    order = range(T)[::-1] if reverse else range(T)
    for executed, t in enumerate(order):
        constant = jax.lax.stop_gradient if executed < T - steps else lambda tree: tree
        s = jax.lax.stop_gradient(s) if executed <= T - steps and steps < T else s
        s = s if reset is None else jnp.where(reset[t], constant(initial), s)
        s, ys[t] = f(constant(W))(s, constant(xs[t]))
    return s, jnp.stack(ys)


def total(result):
    s, ys = result
    return jnp.sum(jnp.cos(s)) + jnp.sum(jnp.arange(1.0, T + 1) * ys)


@pytest.mark.usefixtures("x64")
def test_a_scan_drops_the_cotangents_of_early_outputs():
    """Values, gradients of all arguments, and the derivatives of these by W, with resets and in reverse."""
    cases = [(steps, *case) for steps in (1, 3, T, T + 1) for case in ((False, None), (False, RESET), (True, RESET))]

    def derivatives(run):
        gradient = jax.value_and_grad(lambda *args: total(run(*args)), (0, 1, 2, 3))
        return jax.jvp(lambda W: gradient(W, S, XS, 2 * S), (W,), (jnp.cos(W),))

    def of_scan(steps, reverse, reset, W, s, xs, initial):
        initial = None if reset is None else initial
        return sj.scan(f(W), s, xs, reverse=reverse, gradient=Last(steps=steps), reset=reset, initial=initial)

    def of_loop(steps, reverse, reset, *args):
        return loop(*args, steps, reverse, reset)

    def by(run):
        return [derivatives(functools.partial(run, *case)) for case in cases]

    assert_close(
        *quick_jit(lambda: (by(of_scan), by(of_loop)))(), "(value and gradients, their derivatives)", bound=1e-12
    )


@pytest.mark.usefixtures("x64")
def test_value_and_grad_has_the_losses_of_the_last_steps_alone():
    step = lambda W, s, x: f(W)(s, x)

    def both(steps):
        found = sj.estimate(step, Last(steps=steps), (0, 1, 2))(W, S, XS)
        mean = lambda *args: jnp.mean(loop(*args, None, steps)[1])
        return (found.loss, found.grads), jax.value_and_grad(mean, (0, 1, 2))(W, S, XS)

    for found, want in quick_jit(lambda: [both(steps) for steps in (1, 3, T)])():
        assert_close(found, want, "the mean loss", bound=1e-12)


def test_the_memory_is_that_of_the_last_steps():
    """Ten steps of 100 numbers are kept of 50,000."""

    def loss(w):
        run = lambda s, x: (jnp.sin(w * s), None)
        return sj.scan(run, jnp.ones(100), jnp.arange(50_000), gradient=Last(steps=10))[0].sum()

    compiled = jax.jit(jax.grad(loss)).lower(1.0).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 10 * 100 * 4
