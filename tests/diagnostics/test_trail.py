"""The operation that makes a number not finite is found inside of control flow."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from seqjax.diagnostics.origin import find_origin


def root(x):
    return jnp.sqrt(x)  # planted


@jax.custom_jvp
def with_jvp(x):
    return 2 * root(x)


@jax.custom_vjp
def with_vjp(x):
    return 2 * root(x)


with_jvp.defjvp(lambda p, t: (with_jvp(*p), t[0]))
with_vjp.defvjp(lambda x: (with_vjp(x), None), lambda _, g: (g,))


def carried(x):
    """The root is that of one variable; the result is another one, which adds it up in later iterations."""
    return lax.scan(lambda c, _: ((root(c[0]) - 2, c[1] + c[0]), None), (x + 5, x), length=6)[0][1]


def written(x, reverse=False):
    return lax.scan(lambda c, u: (c, root(x + u)), 0.0, jnp.array([5.0, 2.0, 0.5]), reverse=reverse)[1]


def while_positive(x):
    return lax.while_loop(lambda c: c[0] < x + 4, lambda c: (c[0] + 1, root(c[1]) + x), (0.0, x + 2))[1]


def nested(x):
    inner = lambda c, _: (lax.cond(c < 0, with_jvp, lambda c: c - 2, c), None)
    return jax.jit(lambda x: lax.fori_loop(0, 2, lambda _, c: lax.scan(inner, c, length=2)[0], x))(x)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: lax.cond(x < 0, root, jnp.exp, x),
        lambda x: lax.switch(jnp.int32(2), [jnp.sin, jnp.cos, lambda x: root(x) + 1], x),
        carried,
        written,
        lambda x: written(x, reverse=True),
        while_positive,
        with_jvp,
        with_vjp,
        jax.checkpoint(lambda x: 2 * root(x)),
        nested,
    ],
)
def test_the_operation_inside_is_named_with_its_line(f):
    found = find_origin(lambda x: [f(x)], [0], jnp.float32(-1.0))
    assert (found.operation, found.line) == ("sqrt", f"test_trail.py:{root.__code__.co_firstlineno + 1}")


def test_a_number_that_passes_through_control_flow_is_that_of_an_argument():
    def f(x, y, flag):
        y = lax.cond(flag, lambda x, y: y, lambda x, y: x * y, x, y)
        (_, y), copies = lax.scan(lambda c, u: ((c[1] + u, c[0]), c[0]), (y, 0 * y), jnp.ones(3))
        return [copies, lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, y))[1]]

    for number, scale in ((0, 1.0), (1, 2.0)):
        found = find_origin(f, [number], scale, jnp.array([1.0, jnp.nan]), True)
        assert (found.argument, found.entry) == (1, (1,))


def test_a_constant_inside_is_told_from_what_makes_a_nan_of_it():
    def f(x, table):
        bound = lax.cond(x > 0, lambda x: jnp.full(2, jnp.inf) * x, lambda x: jnp.ones(2), x)
        return [bound - bound, lax.scan(lambda c, t: (c + jnp.asarray([0.0, jnp.nan])[t], None), x, table)[0]]

    assert find_origin(f, [0], jnp.float32(1.0), jnp.arange(2)).operation == "sub"
    assert find_origin(f, [1], jnp.float32(1.0), jnp.arange(2)).operation == "a constant of the step"
