"""Slopes along directions: of unit vectors, of given ones, and of the estimate of another strategy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import value_and_grad
from seqjax.gradients import Memory, ravel_float
from seqjax.testing.compare import assert_close
from seqjax_gradients import Directional, Dodge, Full, Truncated

pytestmark = pytest.mark.usefixtures("x64")

T, B, P = 6, 2, 6


def step(params, h, x):
    h = jnp.sin(params["A"] @ h + params["b"] * x)
    return h, jnp.sum(h**3)


def arguments(rows=B):
    rng = np.random.default_rng(0)
    params = {"A": jnp.asarray(rng.normal(size=(2, 2))), "b": jnp.asarray(rng.normal(size=2))}
    return params, jnp.asarray(rng.normal(size=(B, 2)))[:rows], jnp.asarray(rng.normal(size=(T, B)))[:, :rows]


def flat(grads):
    return np.asarray(ravel_float(grads)[0])


def test_given_directions_project_the_gradient():
    """Orthonormal directions, against the projection of the full gradient."""
    rng = np.random.default_rng(1)
    D = np.linalg.qr(rng.normal(size=(P, 3)))[0].T
    params, *rest = arguments()
    directions = jax.vmap(jax.flatten_util.ravel_pytree(params)[1])(jnp.asarray(D))
    found = jax.jit(value_and_grad(step, Directional()))(params, *rest, memory=Memory(shared=directions))
    full = value_and_grad(step, Full())(params, *rest)
    assert_close(flat(found.grads), D.T @ D @ flat(full.grads), "projection")
    assert_close((found.loss, found.state), (full.loss, full.state), "loss and state")
    assert_close(found.memory.shared, directions, "the directions are kept")


def test_given_directions_of_a_step_with_outputs():
    """They are like the float leaves of the parameters, whatever else the step and the parameters have."""
    params, *rest = arguments()
    directions = jax.tree.map(lambda a: a[None], params)

    def with_outputs(params, h, x):
        h, loss = step({name: params[name] for name in "Ab"}, h, x)
        return h, (loss, h)

    given = Memory(shared=directions | {"n": None})
    found = value_and_grad(with_outputs, Directional(), has_aux=True)(params | {"n": 3}, *rest, memory=given)
    want = value_and_grad(step, Directional())(params, *rest, memory=Memory(shared=directions))
    assert_close(flat(found.grads), flat(want.grads), "outputs")


def test_many_parameters_need_directions():
    with pytest.raises(seqjax.Error, match=r"10,000 parameters have too many unit vectors \(at most 4,096\)"):
        value_and_grad(lambda p, s, x: (s, p @ p), Directional())(jnp.ones(10_000), jnp.ones(1), jnp.ones((2, 1)))


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_slope_is_exact_and_the_direction_is_that_of_the_guide(steps):
    args = arguments(rows=1)
    found, full, guide = (
        flat(value_and_grad(step, each)(*args).grads)
        for each in (Dodge(strategy=Truncated(steps=steps)), Full(), Truncated(steps=steps))
    )
    unit = guide / np.linalg.norm(guide)
    assert_close(found, full @ unit * unit, f"{steps} steps")
    assert found @ full >= 0


def test_each_row_has_a_direction_of_its_own():
    together = value_and_grad(step, Dodge(strategy=Truncated(steps=2)))(*arguments())
    params, h, xs = arguments()
    alone = [
        value_and_grad(step, Dodge(strategy=Truncated(steps=2)), batched=False)(params, h[b], xs[:, b])
        for b in range(B)
    ]
    assert_close(flat(together.grads), np.mean([flat(found.grads) for found in alone], 0), "rows")


def test_no_gradient_is_no_direction():
    found = value_and_grad(lambda p, s, x: (s, 0 * p), Dodge())(jnp.array(2.0), jnp.ones(1), jnp.ones((3, 1)))
    assert found.grads == 0
