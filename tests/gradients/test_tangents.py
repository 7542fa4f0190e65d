"""A value with the tangent of another one."""

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.gradients import Truncated
from seqjax.gradients.mapping import sees_vmap
from seqjax.gradients.tangents import with_tangent_of


def test_second_derivatives_through_a_scan_are_those_of_the_source(x64):
    """The value is h; the derivatives are those of a h + b h³, written without a scan and without the function."""
    factors = jnp.array([[0.5, 0.1], [1, 0.2], [0, 0.0], [1.5, -0.1]])

    def through_scan(h):
        def step(h, ab):
            return jnp.sin(with_tangent_of(h, ab[0] * h + ab[1] * h**3)), None

        return jax.lax.scan(step, h, factors)[0]

    def by_hand(h):  # y, dy, d²y of the composed steps
        y, first, second = h, 1.0, 0.0
        for a, b in np.asarray(factors):
            source = a + 3 * b * y**2, 6 * b * y
            first, second = source[0] * first, source[1] * first**2 + source[0] * second
            y, first, second = np.sin(y), np.cos(y) * first, np.cos(y) * second - np.sin(y) * first**2
        return y, first, second

    h = jnp.array(0.7)
    twice = {
        "reverse of reverse": jax.grad(jax.grad(through_scan)),
        "forward of reverse": lambda h: jax.jvp(jax.grad(through_scan), (h,), (1.0,))[1],
        "reverse of forward": jax.grad(lambda h: jax.jvp(through_scan, (h,), (1.0,))[1]),
        "remat": jax.grad(jax.grad(jax.checkpoint(through_scan))),
    }
    want = by_hand(0.7)
    np.testing.assert_allclose(jax.value_and_grad(through_scan)(h), want[:2], rtol=1e-12)
    for name, second in twice.items():
        np.testing.assert_allclose(second(h), want[2], rtol=1e-12, err_msg=name)


def test_rows_on_any_axis():
    """[2, 3] values with rows on axis 0, and sources with rows on axis 1 or without rows."""
    value, source = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2) - 2
    f = lambda v, s: with_tangent_of(v, s**2)
    got = jax.jvp(jax.vmap(f, (0, 1)), (value, source), (value, source + 1))
    np.testing.assert_array_equal(got, (value, (2 * source * (source + 1)).T))
    got = jax.jvp(jax.vmap(f, (0, None)), (value, source[:, 0]), (value, source[:, 1]))
    np.testing.assert_array_equal(got, (value, np.tile(2 * source[:, 0] * source[:, 1], (2, 1))))


def test_a_step_with_a_cut_inside_does_not_see_vmap():
    """Else its steps would be computed one by one."""

    def step(params, state, x):
        return sj.scan(lambda h, u: (jnp.tanh(params * h + u), h), state, x, gradient=Truncated(steps=2))

    assert not sees_vmap(step, jnp.ones(()), jnp.zeros(()), jnp.ones(4))


def test_a_linear_function_is_transposed_as_it_computes():
    """A solver transposes the function that it is given; the cut changes derivatives alone."""
    f = lambda c: sj.scan(lambda c, x: (0.5 * c, c), c, jnp.ones(4), gradient=Truncated(steps=2))[0]
    assert jax.linear_transpose(f, 1.0)(1.0) == (0.0625,)
    assert jax.grad(f)(1.0) == 0
