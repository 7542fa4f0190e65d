"""A value with the tangent of another one."""

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.gradients import Truncated
from seqjax.gradients.steps.mapping import sees_vmap
from seqjax.gradients.steps.tangents import with_tangent_of
from seqjax.testing.quick_jit import quick_jit


def test_second_derivatives_through_a_scan_are_those_of_the_source(x64):
    """The value is h; the derivatives are those of a h + b h³, written without a scan and without the function."""
    factors = np.array([[0.5, 0.1], [1, 0.2], [0, 0.0], [1.5, -0.1]])

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

    def all_ways(h):
        return {
            "value and gradient": jax.value_and_grad(through_scan)(h),
            "reverse of reverse": jax.grad(jax.grad(through_scan))(h),
            "forward of reverse": jax.jvp(jax.grad(through_scan), (h,), (jnp.ones(()),))[1],
            "reverse of forward": jax.grad(lambda h: jax.jvp(through_scan, (h,), (jnp.ones(()),))[1])(h),
            "remat": jax.grad(jax.grad(jax.checkpoint(through_scan)))(h),
        }

    value, first, second = by_hand(0.7)
    for name, found in quick_jit(all_ways)(np.float64(0.7)).items():
        want = (value, first) if name == "value and gradient" else second
        np.testing.assert_allclose(found, want, rtol=1e-12, err_msg=name)


def test_rows_on_any_axis():
    """[2, 3] values with rows on axis 0, and sources with rows on axis 1 or without rows."""
    value, source = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2) - 2

    def along(axes, *args):
        f = jax.vmap(lambda v, s: with_tangent_of(v, s * s), axes)
        return jax.jvp(f, args, (args[0], args[1] + 1))

    both = quick_jit(lambda v, s: (along((0, 1), v, s), along((0, None), v, s[:, 0])))
    by_column, by_all = both(value, source)
    tangents = (2 * source * (source + 1)).T
    np.testing.assert_array_equal(by_column, (value, tangents))
    np.testing.assert_array_equal(by_all, (value, np.tile(tangents[0], (2, 1))))


def test_a_step_with_a_cut_inside_does_not_see_vmap():
    """Else its steps would be computed one by one."""

    def step(params, state, x):
        return sj.scan(lambda h, u: (jnp.tanh(params * h + u), h), state, x, gradient=Truncated(steps=2))

    assert not sees_vmap(step, jnp.ones(()), jnp.zeros(()), jnp.ones(4))


def test_a_linear_function_is_transposed_as_it_computes():
    """A solver transposes the function that it is given; the cut changes derivatives alone."""
    f = lambda c: sj.scan(lambda c, x: (0.5 * c, c), c, np.ones(4, np.float32), gradient=Truncated(steps=2))[0]
    both = quick_jit(lambda c: (jax.linear_transpose(f, c)(c), jax.grad(f)(c)))
    assert both(np.float32(1)) == ((0.0625,), 0)
