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
@pytest.mark.parametrize(("reverse", "reset"), [(False, None), (False, RESET), (True, RESET)])
def test_a_scan_drops_the_cotangents_of_early_outputs(reverse, reset):
    """Values, gradients of all arguments, and the derivatives of these by W."""

    def derivatives(run):
        gradient = jax.value_and_grad(lambda *args: total(run(*args)), (0, 1, 2, 3))
        along = lambda W: gradient(W, S, XS, 2 * S)
        return jax.jvp(along, (W,), (jnp.cos(W),))

    options = {"reverse": reverse, "reset": reset}

    def of_scan(steps, W, s, xs, initial):
        initial = None if reset is None else initial
        return sj.scan(f(W), s, xs, gradient=Last(steps=steps), initial=initial, **options)

    def of_loop(steps, *args):
        return loop(*args, steps, **options)

    def by(run):
        return {steps: derivatives(functools.partial(run, steps)) for steps in (1, 3, T, T + 1)}

    assert_close(*quick_jit(lambda: (by(of_scan), by(of_loop)))(), f"reverse {reverse}, reset {reset}", bound=1e-12)


@pytest.mark.usefixtures("x64")
def test_value_and_grad_has_the_losses_of_the_last_steps_alone():
    step = lambda W, s, x: f(W)(s, x)

    def both(steps):
        found = sj.estimate(step, Last(steps=steps), (0, 1, 2))(W, S, XS)
        mean = lambda *args: jnp.mean(loop(*args, None, steps)[1])
        return (found.loss, found.grads), jax.value_and_grad(mean, (0, 1, 2))(W, S, XS)

    for found, want in quick_jit(lambda: [both(steps) for steps in (1, 3, T)])():
        assert_close(found, want, "the mean loss", bound=1e-12)


def test_the_memory_does_not_grow_with_the_steps():
    """50,000 steps take the bytes of 5,000, at most those of 200 states."""

    def bytes_of(num_steps):
        def loss(w):
            xs = jnp.arange(num_steps)
            run = lambda s, x: (jnp.sin(w * s), None)
            return sj.scan(run, jnp.ones(100), xs, gradient=Last(steps=10))[0].sum()

        return jax.jit(jax.grad(loss)).lower(1.0).compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(50_000) <= 1.01 * bytes_of(5_000) < 20 * 10 * 100 * 4
