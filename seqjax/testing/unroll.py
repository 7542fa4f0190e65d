"""`check_unroll`: proves that a model's own `unroll` is the scan of its `step`, under edge weights as well."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.spec import Spec, Tokens
from seqjax.errors import Error
from seqjax.gradients.edges import check_edge_weights
from seqjax.gradients.problem import Problem
from seqjax.models.model import CountBasedModel, Model
from seqjax.testing.calls import quick_jit
from seqjax.testing.compare import assert_close

T, B = 5, 3


def check_unroll(model: Model, spec: Spec) -> float:
    """Compares a model's `unroll` with the scan of its `step`, in float64 and on random parameters, states and inputs.

    They must have the same states, losses and gradients: without edge weights, with weights [T], and with [T, B].

    Args:
        model: an instance, such as `Mine()`.
        spec: what goes into the model and what comes out.

    Returns:
        The largest relative error.

    Raises:
        Error: the two differ, or the model is not trained by gradients.
    """
    if isinstance(model, CountBasedModel):
        raise Error(f"{type(model).__name__} is count-based: it has no gradient, so its unroll needs no check")
    with jax.enable_x64(True):
        rng = np.random.default_rng(7)

        def noisy(a):
            is_float = jnp.issubdtype(a.dtype, jnp.inexact)
            return (a + 0.5 * rng.normal(size=a.shape)).astype(float) if is_float else a

        problem = model.problem(spec)
        params = jax.tree.map(noisy, problem.init(jax.random.key(0)))
        state = jax.tree.map(noisy, problem.init_rows(params, B))
        xs = tuple(_values(rng, side) for side in (spec.inputs, spec.targets))
        check_edge_weights(problem, params, state, xs)

        weights_T, weights_TB = rng.uniform(-1, 2, T), rng.uniform(-1, 2, (T, B))
        weights_T[2] = weights_TB[3, 1] = 0  # cuts
        worst = 0.0
        for edge_weights in (None, jnp.asarray(weights_T), jnp.asarray(weights_TB)):
            got, want = (_differentiated(unroll, problem, params, state, xs, edge_weights) for unroll in _UNROLLS)
            what = f"unroll, edge weights {'None' if edge_weights is None else list(edge_weights.shape)}, "
            worst = max(worst, assert_close(got, want, what))
        return worst


def _own(problem, *args):
    return problem.unroll(*args)


_UNROLLS = _own, Problem.unroll


@functools.partial(quick_jit, static_argnums=(0, 1))
def _differentiated(unroll, problem, params, state, xs, edge_weights):
    """Losses, states and gradient. Each loss has a weight of its own, so that no two of them can be exchanged."""

    def loss(params):
        after, losses = unroll(problem, params, state, xs, edge_weights)
        return jnp.sum(losses * jnp.cos(jnp.arange(T * B, dtype=losses.dtype)).reshape(T, B)), (losses, after)

    (_, found), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return found, grads


def _values(rng, side):
    """Random values [T, B, ...] of one side of a spec."""
    if isinstance(side, Tokens):
        return jnp.asarray(rng.integers(0, side.size, (T, B)), jnp.int32)
    return jnp.asarray(rng.normal(size=(T, B, side.dim)))
