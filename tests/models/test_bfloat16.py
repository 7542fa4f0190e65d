"""A model in bfloat16 has one trajectory, whether its steps are taken one by one or all at once."""

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.testing.quick_jit import quick_jit

T, B = 200, 2
SPEC = sj.Spec(sj.Values(2), sj.Values(1))


def slow_gates(params):
    """A bias of -6 for the update gate of `min-gru`: a change of the state is smaller than a rounded state shows."""
    layer = params["layer_0"]
    half = len(layer["b_h"]) // 2
    return params | {"layer_0": layer | {"b_h": layer["b_h"].at[:half].set(-6.0)}}


MODELS = {
    "min-gru": (sj.create("model", "min-gru", hidden=4), slow_gates),
    "lru": (sj.create("model", "lru", hidden=4, layers=2, residual=True), lambda params: params),
    "gru": (sj.create("model", "gru", hidden=4), lambda params: params),
}


def test_steps_one_by_one_have_the_trajectory_of_unroll():
    """All but rounding in float32 is equal: in a product with h a number may be rounded to the other neighbour."""

    def both():
        pairs = {}
        for name, (model, change) in MODELS.items():
            problem = model.problem(SPEC, precision="bfloat16")
            params = change(problem.init(jax.random.key(0)))
            state = problem.init_rows(params, B)
            keys = jax.random.split(jax.random.key(1))
            xs = jax.random.normal(keys[0], (T, B, 2)), jax.random.normal(keys[1], (T, B, 1))

            def run(unroll, params, problem=problem, state=state, xs=xs):
                end, losses = unroll(problem, params, state, xs)
                return jnp.sum(losses), (end, losses)

            pairs[name] = [
                jax.value_and_grad(lambda params, unroll=unroll, run=run: run(unroll, params), has_aux=True)(params)
                for unroll in (type(problem).unroll, sj.Problem.unroll)
            ]
        return pairs

    for name, (unrolled, stepped) in quick_jit(both)().items():
        ((_, values), grads), ((_, wanted), wanted_grads) = unrolled, stepped
        bound = 1e-3 if name == "gru" else 2e-5
        for got, want in zip(jax.tree.leaves(values), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(got, want, rtol=bound, atol=bound, err_msg=name)
        for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads), strict=True):
            # The two reverse passes round other numbers.
            assert np.linalg.norm(got - want) <= 0.02 * np.linalg.norm(want), name
