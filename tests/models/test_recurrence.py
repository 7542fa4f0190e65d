"""Linear recurrences against loops of numpy, forwards and backwards, with resets, and their derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.slow import slow

import seqjax as sj
from seqjax.models.recurrence import affine_scan
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit


def draw(seed, *shape, dtype=float):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if dtype is complex else x


def loop(a, b, h0, reset=None, reverse=False, weights=None):
    """h_t = a_t h_{t-1} + b_t in numpy, and the gradient of Σ sin|h|² or of Σ sin h by all arguments, by hand."""
    steps = range(len(b))[:: -1 if reverse else 1]
    reset = np.zeros(len(b), bool) if reset is None else reset.reshape(*reset.shape, *[1] * (b.ndim - reset.ndim))
    h, hs, before = h0, np.zeros_like(b), np.zeros_like(b)
    for t in steps:
        before[t] = np.where(reset[t], 0, h)
        h = hs[t] = a[t] * before[t] + b[t]
    da, db, d = np.zeros_like(a), np.zeros_like(b), np.zeros_like(h0)
    for t in steps[::-1]:
        db[t] = d + np.cos(hs[t])
        da[t] = db[t] * before[t]
        d = np.where(reset[t], 0, a[t] * db[t] * (1 if weights is None else weights[t]))
    return hs, h, (da, db, d)


def in_both_ways(run, *args):
    """What run(parallel, *args) returns step by step and in parallel, from one program."""
    return quick_jit(lambda *args: [run(parallel, *args) for parallel in (False, True)])(*args)


@pytest.mark.parametrize("num_steps", [7, *slow(1, 2, 64, 4_096)])
@pytest.mark.parametrize(("resets", "reverse"), [(False, False), (True, True), *slow((False, True), (True, False))])
def test_values_and_gradients_are_those_of_a_loop(reverse, num_steps, resets, x64):
    a, b, h0 = np.tanh(draw(0, num_steps, 2, 3)), draw(1, num_steps, 2, 3), draw(2, 2, 3)
    reset = np.random.default_rng(3).random((num_steps, 2)) < 0.2 if resets else None

    def run(parallel, *args):
        def of(a, b, h0):
            hs, last = sj.linear_scan(a, b, h0, reset, reverse, parallel)
            return jnp.sum(jnp.sin(hs)), (hs, last)

        return jax.grad(of, (0, 1, 2), has_aux=True)(*args)

    hs, last, grads = loop(a, b, h0, reset, reverse)
    assert_close(in_both_ways(run, a, b, h0), [(grads, (hs, last))] * 2, "gradients and values")


def test_edge_weights_multiply_the_derivative_of_the_state_alone(x64):
    a, b, h0, weights = np.tanh(draw(0, 9, 2, 3)), draw(1, 9, 2, 3), draw(2, 2, 3), draw(3, 9)

    def run(parallel, *args):
        def of(a, b, h0):
            return jnp.sum(jnp.sin(affine_scan([[a]], [b], [h0], jnp.asarray(weights), parallel=parallel)[0][0]))

        return jax.grad(of, (0, 1, 2))(*args)

    assert_close(in_both_ways(run, a, b, h0), [loop(a, b, h0, weights=weights)[2]] * 2, "gradients")


def test_a_cut_stops_a_gradient_that_is_not_finite(x64):
    a, weights = np.where(np.arange(8) < 4, 0.5, 1e200)[:, None], np.where(np.arange(8) == 4, 0.0, 1.0)

    def run(parallel, b):
        last = lambda b: affine_scan([[jnp.asarray(a)]], [b], [jnp.zeros(1)], weights, parallel=parallel)[1][0][0]
        return jax.grad(last)(b)

    for grads in map(np.ravel, in_both_ways(run, np.zeros((8, 1)))):
        assert not np.isfinite(grads[4])
        assert grads[:4].tolist() == [0] * 4


@pytest.mark.parametrize("fixed", [False, *slow(True)])
def test_units_of_two_numbers_are_complex_numbers(fixed, x64):
    a, b, h0 = 0.5 * draw(0, 6, 2, 3, dtype=complex), draw(1, 6, 2, 3, dtype=complex), draw(2, 2, 3, dtype=complex)
    a = a[0, 0] if fixed else a
    full = np.broadcast_to(a, b.shape)
    hs, h, _ = loop(full, b, h0)

    def run(parallel, a, full, b, h0):
        parts = lambda z: [jnp.real(z), jnp.imag(z)]
        re, im = parts(a)
        pairs = affine_scan([[re, -im], [im, re]], parts(b), parts(h0), parallel=parallel)
        return pairs, [*zip(*map(parts, sj.linear_scan(full, b, h0, parallel=parallel)), strict=True)]

    want = [hs.real, hs.imag], [h.real, h.imag]
    assert_close(
        in_both_ways(run, a, full, b, h0), [(want, [*zip(*want, strict=True)])] * 2, "pairs, and complex numbers"
    )


def test_all_derivatives(x64):
    """In forward and in reverse mode, after each other, against those of a loop over the steps."""
    a, b, h0 = np.tanh(draw(0, 3, 2)), draw(1, 3, 2), draw(2, 2)
    reset = np.array([False, True, False])

    def by_loop(a, b, h0=0.0, reset=(False,) * 3):
        hs = [h0]
        for a_t, b_t, reset_t in zip(jnp.broadcast_to(a, b.shape), b, reset, strict=True):
            hs.append((0 if reset_t else a_t * hs[-1]) + b_t)
        return jnp.stack(hs[1:]), hs[-1]

    def forward(f):
        return lambda *at: jax.jvp(f, at, tuple(map(jnp.sin, at)))

    def reverse(f):
        weigh = lambda *at: sum(jnp.vdot(jnp.cos(jnp.arange(1.0, y.size + 1)), y) for y in jax.tree.leaves(f(*at)))
        return lambda *at: jax.value_and_grad(weigh, tuple(range(len(at))))(*at)

    def run(parallel, a, b, h0):
        def derivatives(f):
            varying = lambda a, b, h0: f(a, b, h0, reset=reset)
            third = reverse(forward(forward(varying))), forward(reverse(reverse(varying)))
            return [g(a, b, h0) for g in third] + [g(a[0], b) for g in (reverse(forward(f)), forward(reverse(f)))]

        return derivatives(by_loop if parallel is None else functools.partial(sj.linear_scan, parallel=parallel))

    want = quick_jit(functools.partial(run, None))(a, b, h0)
    assert_close(in_both_ways(run, a, b, h0), [want] * 2, "derivatives")


def test_an_infinite_number_before_a_reset_is_forgotten():
    b, reset = np.array([np.inf, 1, 2, 3], np.float32), np.array([0, 0, 1, 0], bool)
    for hs, last in in_both_ways(lambda way, b: sj.linear_scan(jnp.ones(4), b, reset=reset, parallel=way), b):
        assert hs.tolist() == [np.inf, np.inf, 2, 5]
        assert last == 5


def test_a_reset_also_forgets_a_factor_that_is_infinite():
    a, reset = np.array([[1, np.inf], [np.inf, 0.5]], np.float32), np.array([[0, 1], [1, 0]], bool)
    each = lambda parallel, a, reset: sj.linear_scan(a, jnp.ones(2), reset=reset, parallel=parallel)
    for hs, _ in in_both_ways(jax.vmap(each, (None, 0, 0)), a, reset):
        assert np.isfinite(hs).all()
        assert (np.asarray(hs)[reset] == 1).all()


def test_without_steps_the_last_value_is_the_first():
    for parallel in (False, True, None):
        hs, last = quick_jit(functools.partial(sj.linear_scan, parallel=parallel))(*np.ones((2, 0, 2)), np.arange(2.0))
        assert (hs.shape, last.tolist()) == ((0, 2), [0, 1])


def test_factors_in_bfloat16_that_are_the_same_at_all_steps_have_a_gradient():
    a, b = np.full(3, 0.5, jnp.bfloat16), np.ones((6, 3), jnp.bfloat16)
    want = sum(n * 0.5 ** (n - 1) for n in range(6))
    run = lambda parallel, a: jax.grad(lambda a: sj.linear_scan(a, b, parallel=parallel)[1].sum())(a)
    for grad in in_both_ways(run, a):
        assert grad.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(grad, float), want, rtol=0.02)


def test_sums_in_bfloat16_are_computed_in_float32():
    a, b = np.ones(4_000, jnp.bfloat16), np.full(4_000, 0.01, jnp.bfloat16)
    for hs, last in in_both_ways(lambda parallel, a, b: sj.linear_scan(a, b, parallel=parallel), a, b):
        assert (hs.dtype, last.dtype) == (jnp.bfloat16, jnp.float32)
        assert abs(last.item() - 4_000 * float(b[0])) < 0.01  # added up in bfloat16, it would stop at 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3), np.ones((4, 3, 2))), r"a must have the shape of b, \[4, 3, 2\]"),
        ((np.ones((4, 3)), np.ones((4, 3)), np.ones(2)), r"h0 must have the shape \[3\], not \[2\]"),
        ((np.ones((4, 3)), np.ones((4, 3)), None, np.ones(4)), r"reset must be bool\[4\] or bool\[4, 3\], not float32"),
        ((1.0, 1.0), "a must have the shape of b"),
        ((np.ones(3), np.ones(3, int)), r"b must be real or complex floating-point numbers, not int32\[3\]"),
        ((np.ones(3), np.ones(3), None, None, "no"), "reverse = 'no': pass True or False"),
        ((np.ones(3), np.ones(3), None, None, False, "yes"), "parallel = 'yes': pass True, False or None"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(sj.Error, match=message):
        jax.eval_shape(lambda: sj.linear_scan(*arguments))
