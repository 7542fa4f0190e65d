"""A model in bfloat16 has one trajectory, whether its steps are taken one by one or all at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.testing.quick_jit import quick_jit

T, B = 100, 2
SPEC = sj.Spec(sj.Values(2), sj.Values(1))


def slow_gates(params):
    """A bias of -6 for the update gate of `min-gru`: a change of the state is smaller than a rounded state shows."""
    layer = params["layer_0"]
    half = len(layer["b_h"]) // 2
    return params | {"layer_0": layer | {"b_h": layer["b_h"].at[:half].set(-6.0)}}


MODELS = {
    "min-gru": (sj.create("model", "min-gru", hidden=4, residual=True, parallel=False), slow_gates),
    "lru": (sj.create("model", "lru", hidden=4, layers=2, residual=True), lambda params: params),
    "gru": (sj.create("model", "gru", hidden=4), lambda params: params),
}


@pytest.mark.parametrize("name", ["min-gru", pytest.param("lru", marks=pytest.mark.slow), "gru"])
def test_steps_one_by_one_have_the_trajectory_of_unroll(name):
    """All but rounding in float32 is equal: in a product with h a number may be rounded to the other neighbour."""
    model, change = MODELS[name]
    problem = model.problem(SPEC, precision="bfloat16")
    rng = np.random.default_rng(1)
    xs = [rng.normal(size=(T, B, width)).astype(np.float32) for width in (2, 1)]

    @quick_jit
    def both():
        params = change(problem.init(jax.random.key(0)))
        state = problem.init_rows(params, B)

        def run(unroll, params):
            end, losses = unroll(problem, params, state, jax.tree.map(jnp.asarray, tuple(xs)))
            return jnp.sum(losses), (end, losses)

        of = lambda unroll: jax.value_and_grad(functools.partial(run, unroll), has_aux=True)(params)
        return of(type(problem).unroll), of(sj.Problem.unroll)

    ((_, values), grads), ((_, wanted), wanted_grads) = jax.tree.map(np.asarray, both())
    bound = 1e-3 if name == "gru" else 2e-5
    for got, want in zip(jax.tree.leaves(values), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(got, want, rtol=bound, atol=bound)
    for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads), strict=True):
        # The two reverse passes round other numbers.
        assert np.linalg.norm(got - want) <= 0.02 * np.linalg.norm(want)
