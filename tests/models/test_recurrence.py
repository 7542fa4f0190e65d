"""Linear recurrences against loops of numpy, forwards and backwards, with resets, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

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
    h, hs, before = h0, np.zeros_like(b), np.zeros_like(b)
    for t in steps:
        before[t] = np.where(False if reset is None else reset[t].reshape(-1, *[1] * (h.ndim - 1)), 0, h)
        h = hs[t] = a[t] * before[t] + b[t]
    da, db, d = np.zeros_like(a), np.zeros_like(b), np.zeros_like(h0)
    for t in steps[::-1]:
        db[t] = d + np.cos(hs[t])
        da[t] = db[t] * before[t]
        d = a[t] * db[t] * (1 if weights is None else weights[t])
        d = np.where(False if reset is None else reset[t].reshape(-1, *[1] * (h.ndim - 1)), 0, d)
    return hs, h, (da, db, d)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("num_steps", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 64, 4_096))])
@pytest.mark.parametrize("resets", [False, True])
def test_values_and_gradients_are_those_of_a_loop(parallel, reverse, num_steps, resets, x64):
    a, b, h0 = np.tanh(draw(0, num_steps, 2, 3)), draw(1, num_steps, 2, 3), draw(2, 2, 3)
    reset = np.random.default_rng(3).random((num_steps, 2)) < 0.2 if resets else None

    def run(a, b, h0):
        return sj.linear_scan(a, b, h0, reset, reverse, parallel)

    hs, last, grads = loop(a, b, h0, reset, reverse)
    assert_close(quick_jit(run)(a, b, h0), (hs, last), "values")
    assert_close(
        quick_jit(jax.grad(lambda *args: jnp.sum(jnp.sin(run(*args)[0])), (0, 1, 2)))(a, b, h0), grads, "gradients"
    )


@pytest.mark.parametrize("parallel", [False, True])
def test_edge_weights_multiply_the_derivative_of_the_state_alone(parallel, x64):
    a, b, h0, weights = np.tanh(draw(0, 9, 2, 3)), draw(1, 9, 2, 3), draw(2, 2, 3), draw(3, 9)

    def run(a, b, h0):
        return jnp.sum(jnp.sin(affine_scan([[a]], [b], [h0], jnp.asarray(weights), parallel=parallel)[0][0]))

    assert_close(quick_jit(jax.grad(run, (0, 1, 2)))(a, b, h0), loop(a, b, h0, weights=weights)[2], "gradients")


@pytest.mark.parametrize("parallel", [False, True])
def test_a_cut_stops_a_gradient_that_is_not_finite(parallel, x64):
    a = jnp.where(jnp.arange(8) < 4, 0.5, 1e200)[:, None]
    weights = jnp.where(jnp.arange(8) == 4, 0.0, 1.0)

    def last(b):
        return affine_scan([[a]], [b], [jnp.zeros(1)], weights, parallel=parallel)[1][0][0]

    grads = jax.grad(last)(jnp.zeros((8, 1)))[:, 0]
    assert not jnp.isfinite(grads[4])
    assert grads[:4].tolist() == [0] * 4


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_units_of_two_numbers_are_complex_numbers(parallel, fixed, x64):
    a, b, h0 = 0.5 * draw(0, 6, 2, 3, dtype=complex), draw(1, 6, 2, 3, dtype=complex), draw(2, 2, 3, dtype=complex)
    a = a[0, 0] if fixed else a
    (re, im), (last_re, last_im) = affine_scan(
        [[a.real, -a.imag], [a.imag, a.real]], [b.real, b.imag], [h0.real, h0.imag], parallel=parallel
    )
    full = np.broadcast_to(a, b.shape)
    h, hs = h0, []
    for t in range(6):
        h = full[t] * h + b[t]
        hs.append(h)
    hs = np.stack(hs)
    assert_close((re, im, last_re, last_im), (hs.real, hs.imag, h.real, h.imag), "pairs")
    got, last = sj.linear_scan(full, b, h0, parallel=parallel)
    assert_close((got.real, got.imag, last.real, last.imag), (hs.real, hs.imag, h.real, h.imag), "complex numbers")


@pytest.mark.parametrize("parallel", [False, True])
def test_all_derivatives(parallel, x64):
    b, h0 = draw(1, 5, 2), draw(2, 2)
    reset = np.array([False, False, True, False, False])

    def run(a):
        return sj.linear_scan(a, b, h0, reset, parallel=parallel)

    check_grads(run, (np.tanh(draw(0, 5, 2)),), order=3)
    check_grads(lambda a, b: sj.linear_scan(a, b, parallel=parallel), (np.tanh(draw(0, 2)), b), order=2)


@pytest.mark.parametrize("parallel", [False, True])
def test_an_infinite_number_before_a_reset_is_forgotten(parallel):
    hs, last = sj.linear_scan(
        jnp.ones(4), jnp.array([jnp.inf, 1.0, 2.0, 3.0]), reset=jnp.array([0, 0, 1, 0], bool), parallel=parallel
    )
    assert hs.tolist() == [jnp.inf, jnp.inf, 2.0, 5.0]
    assert last == 5.0


@pytest.mark.parametrize("parallel", [False, True])
def test_a_reset_also_forgets_a_factor_that_is_infinite(parallel):
    for a, reset in ((jnp.array([1.0, jnp.inf]), [0, 1]), (jnp.array([jnp.inf, 0.5]), [1, 0])):
        hs, _ = sj.linear_scan(a, jnp.ones(2), reset=jnp.array(reset, bool), parallel=parallel)
        assert jnp.isfinite(hs).all()
        assert hs[reset.index(1)] == 1


@pytest.mark.parametrize("parallel", [False, True, None])
def test_without_steps_the_last_value_is_the_first(parallel):
    hs, last = sj.linear_scan(jnp.ones((0, 2)), jnp.ones((0, 2)), jnp.arange(2.0), parallel=parallel)
    assert (hs.shape, last.tolist()) == ((0, 2), [0, 1])


@pytest.mark.parametrize("parallel", [False, True])
def test_factors_in_bfloat16_that_are_the_same_at_all_steps_have_a_gradient(parallel):
    a, b = jnp.full(3, 0.5, jnp.bfloat16), jnp.ones((6, 3), jnp.bfloat16)
    grad = jax.grad(lambda a: sj.linear_scan(a, b, parallel=parallel)[1].sum())(a)
    want = sum(n * 0.5 ** (n - 1) for n in range(6))
    assert grad.dtype == jnp.bfloat16
    np.testing.assert_allclose(grad.astype(float), want, rtol=0.02)


@pytest.mark.parametrize("parallel", [False, True])
def test_sums_in_bfloat16_are_computed_in_float32(parallel):
    a, b = jnp.ones(4_000, jnp.bfloat16), jnp.full(4_000, 0.01, jnp.bfloat16)
    hs, last = sj.linear_scan(a, b, parallel=parallel)
    assert (hs.dtype, last.dtype) == (jnp.bfloat16, jnp.float32)
    assert abs(last - 4_000 * b[0].astype(float)) < 0.01  # added up in bfloat16, it would stop at 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((jnp.ones(3), jnp.ones((4, 3, 2))), r"a must have the shape of b, \[4, 3, 2\]"),
        ((jnp.ones((4, 3)), jnp.ones((4, 3)), jnp.ones(2)), r"h0 must have the shape \[3\], not \[2\]"),
        (
            (jnp.ones((4, 3)), jnp.ones((4, 3)), None, jnp.ones(4)),
            r"reset must be bool\[4\] or bool\[4, 3\], not float32",
        ),
        ((1.0, 1.0), "a must have the shape of b"),
        ((jnp.ones(3), jnp.ones(3, int)), r"b must be real or complex floating-point numbers, not int32\[3\]"),
        ((jnp.ones(3), jnp.ones(3), None, None, "no"), "reverse = 'no': pass True or False"),
        ((jnp.ones(3), jnp.ones(3), None, None, False, "yes"), "parallel = 'yes': pass True, False or None"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(sj.Error, match=message):
        sj.linear_scan(*arguments)
