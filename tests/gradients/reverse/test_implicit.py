"""The implicit gradient against linear solves, and where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.errors import Error
from seqjax.gradients import Implicit
from seqjax.testing.quick_jit import quick_jit

B, N = 6, 5
RNG = np.random.default_rng(0)
# Random maps with largest singular values from .3 to .95; they are not symmetric, so that J and its transpose differ.
W_B = RNG.normal(size=(B, N, N))
W_B *= np.linspace(0.3, 0.95, B)[:, None, None] / np.linalg.norm(W_B, 2, axis=(1, 2), keepdims=True)
X_B = RNG.normal(size=(B, N))


def solve(W, x, steps, gradient, far=1e-13):
    """A fixed point of s = tanh(W s + x), beside an integer and a copy of the last but one state."""

    def body(state):
        (s, _), n = state
        return (jnp.tanh(W @ s + x), s), n + 1

    def is_far(state):
        (s, before), _ = state
        return jnp.max(jnp.abs(s - before)) > far

    start = (jnp.zeros_like(x), jnp.ones_like(x)), jnp.int32(0)
    return sj.while_loop(is_far, body, start, steps, gradient)[0][0]


def loss(W, x, *args):
    return jnp.sum(jnp.sin(solve(W, x, *args)))


def by_solve(W, x):
    """The gradients by W and x, from a linear solve in float64."""
    s = np.zeros(N)
    for _ in range(2000):
        s = np.tanh(W @ s + x)
    slope = 1 - s**2
    v = np.linalg.solve((np.eye(N) - slope[:, None] * W).T, np.cos(s)) * slope
    return np.outer(v, s), v


def error(got, want):
    got, want = (np.concatenate([np.ravel(a) for a in tree]) for tree in (got, want))
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.usefixtures("x64")
def test_random_contractions_have_the_gradient_of_a_linear_solve():
    """To ten times the tolerance, each row of a batch."""
    rows = jax.vmap(jax.grad(loss, (0, 1)), (0, 0, None, None))
    for implicit in (Implicit(), Implicit(tolerance=1e-4)):
        got = jax.device_get(jax.jit(rows, static_argnums=(2, 3))(W_B, X_B, 2000, implicit))
        for i in range(B):
            of_row = jax.tree.map(lambda a, i=i: a[i], got)
            assert error(of_row, by_solve(W_B[i], X_B[i])) < 10 * (implicit.tolerance or 1e-10), (i, implicit)


@pytest.mark.usefixtures("x64")
def test_what_is_close_to_the_fixed_point_has_a_gradient_and_what_is_far_has_none():
    W, x = W_B[3], X_B[3]
    gradient = jax.jit(jax.grad(lambda W, x, far, gradient: loss(W, x, 500, gradient, far)), static_argnums=3)
    single = gradient(W.astype(np.float32), x.astype(np.float32), np.float32(1e-4), Implicit())
    assert single.dtype == jnp.float32
    assert error([single], [by_solve(W, x)[0]]) < 1e-3
    # The condition never holds, so that the loop ends at `max_steps`, at its fixed point.
    assert error([gradient(W, x, -1.0, Implicit())], [by_solve(W, x)[0]]) < 1e-9
    assert np.isnan(gradient(W, x, 0.3, Implicit())).all()
    assert np.isfinite(gradient(W, x, 0.3, Implicit(residual=10.0))).all()


def test_a_map_that_does_not_contract_has_no_gradient():
    """It drifts; it expands; every state is a fixed point, so that I - J is zero."""

    def run(w):
        loops = (lambda s: s + w, 0.0), (lambda s: 3 * w * s + 1, 0.0), (lambda s: s + 0 * w, 1.0)
        return jnp.stack([sj.while_loop(lambda s: True, *loop, 20, Implicit()) for loop in loops])

    assert np.isnan(quick_jit(jax.jacrev(run))(1.0)).all()


def test_rows_without_a_gradient_do_not_disturb_the_others():
    run = lambda w: sj.while_loop(lambda s: True, lambda s: w * s + 1.0, 0.0, 100, Implicit())
    got = np.asarray(quick_jit(jax.vmap(jax.grad(run)))(np.array([0.5, 3.0], np.float32)))  # s = 1 / (1 - w)
    assert abs(got[0] - 4) < 1e-3
    assert np.isnan(got[1])


def test_cotangents_of_all_sizes_have_a_gradient():
    """GMRES takes a right side below the precision of 1 for zero; 9 s = 10 w at the fixed point."""

    def run(w):
        body = lambda c: (0.1 * c[0] + w, c[1] + 1)
        s, _ = sj.while_loop(lambda c: c[1] < 30, body, (0.0, 0), 90, Implicit())
        return s

    sizes = np.array([0, 1e-30, 1e-10, 1, 1e20], np.float32)
    got = quick_jit(jax.vmap(jax.grad(lambda w, size: size * run(w)), (None, 0)))(1.0, sizes)
    np.testing.assert_allclose(got, sizes / 0.9, rtol=1e-5)


def test_the_initial_state_and_each_leaf_are_checked():
    """Data that is carried in the state has no gradient, and a large leaf does not hide one that still changes."""

    def carried(q):
        body = lambda c: {"q": c["q"], "x": 0.5 * c["x"] + 0.25 * c["q"]}
        is_far = lambda c: jnp.abs(2 * c["x"] - c["q"]) > 1e-5
        return sj.while_loop(is_far, body, {"q": q, "x": 0.0}, 99, Implicit())["x"]

    def hidden(w):
        body = lambda c: {"x": 0.9 * c["x"] + w, "big": 0.5 * c["big"] + 5e3}
        return sj.while_loop(lambda c: True, body, {"x": 0.0, "big": 1e4}, 3, Implicit())["x"]

    from_start = lambda s: sj.while_loop(lambda s: jnp.abs(s - 1) > 1e-6, lambda s: 0.9 * s + 0.1, s, 200, Implicit())
    cut_off = lambda s: sj.while_loop(lambda s: jnp.abs(s - 1) > 1e-6, lambda s: 0.9 * s + 0.1, s, 2, Implicit())
    got = quick_jit(lambda x: [jax.grad(f)(x) for f in (from_start, carried, hidden, cut_off)])(5.0)
    assert got[0] == 0
    assert np.isnan(got[1:]).all()


def test_half_precision_has_a_gradient():
    def run(w):
        body = lambda c: (jnp.tanh(w * c[0] + 1), c[1] + 1)
        s, _ = sj.while_loop(lambda c: c[1] < 30, body, (jnp.zeros_like(w), 0), 60, Implicit())
        return s

    half, single = quick_jit(lambda w: (jax.grad(run)(w.astype(jnp.bfloat16)), jax.grad(run)(w)))(np.float32(0.3))
    assert abs(float(half) - float(single)) < 0.05 * float(single)


def test_second_derivatives_are_refused():
    first = jax.grad(lambda x: loss(jnp.asarray(W_B[0], jnp.float32), x, 20, Implicit()))
    with pytest.raises(Error, match="first derivatives only"):
        jax.make_jaxpr(jax.grad(lambda x: first(x).sum()))(jnp.asarray(X_B[0], jnp.float32))


def test_a_loop_with_this_gradient_inside_of_another_one_is_refused():
    inner = lambda s: sj.while_loop(lambda x: x > s, lambda x: 0.5 * x + 0.1, 1.0, 9, Implicit())
    with pytest.raises(Error, match="use Full or Last for the inner loop"):
        jax.make_jaxpr(lambda s: sj.while_loop(lambda s: s > 0.3, inner, s, 9, Implicit()))(1.0)


def test_fields_are_checked():
    with pytest.raises(Error, match="residual"):
        Implicit(residual=-1.0)
