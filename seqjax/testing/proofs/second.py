"""Checks second derivatives: a weight on an edge multiplies the tangents of the state at every order."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.contract.problem import where_rows
from seqjax.gradients.contract.rows import over_rows
from seqjax.gradients.contract.window import Memory
from seqjax.gradients.reverse.edges import WeightedEdges
from seqjax.testing.compare import Failed, Skipped, assert_close
from seqjax.testing.proofs.calls import KEY, initial_memory, row_input
from seqjax.testing.proofs.cases import B, T, case
from seqjax.testing.quick_jit import quick_jit


def check_second_derivatives(strategy: WeightedEdges, cases: Sequence[str] = ("cell",)) -> float:
    """Checks the derivative of the gradient along a direction.

    It is compared with reverse mode over a scan of the step, in which s + w (s' - s) enters a step in place of the
    state s', w is the weight of the edge, and s is s' as a constant.
    """
    worst = 0.0
    for name in cases:
        c = case(name)
        memory = initial_memory(strategy, c.problem, c.params, c.state, row_input(c))
        (got, got_second), (want, want_second) = _both(
            strategy, c.problem, c.step, c.initial, c.params, c.state, memory, c.windows[0]
        )
        try:
            assert_close(got, want, name)
        except Failed:
            # Such as weights on some variables of the state only, and strategies that fail another check.
            raise Skipped("its edge weights do not say all about its gradient") from None
        worst = max(worst, assert_close(got_second, want_second, f"{name}, derivative of the gradient, "))
    return worst


@functools.partial(quick_jit, static_argnums=(0, 1, 2, 3))
def _both(strategy, problem, step, initial, params, state, memory, batch):
    """The gradient and the derivative of its product with a direction: of the strategy, and the true ones."""
    rng = np.random.default_rng(KEY)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), params)
    noise = ()
    if strategy.draws:
        keys = jax.random.split(jax.random.key(KEY), B)
        draw = lambda key, memory: strategy.draw(key, problem, params, memory, T)
        noise = over_rows(draw, (0, Memory(None, 0)), B)(keys, memory)
    weigh = lambda noise, memory: strategy.edge_weights(noise, memory, T)[0]
    weights_TB = over_rows(weigh, (0, Memory(None, 0)), B, out_axes=1)(noise, memory)

    def start(params):
        if initial is None:
            return state
        new = jax.tree.map(lambda a: jnp.broadcast_to(a, (B, *a.shape)), initial(params))
        return where_rows(batch.reset, new, state)

    def loss(params):
        def body(state, inputs):
            x, step_weights, weights = inputs
            if weights is not None:
                state = jax.tree.map(functools.partial(_weighted, weights), state)
            state, losses = jax.vmap(step, (None, 0, 0))(params, state, x)
            return state, jnp.sum(step_weights * losses)

        return jax.lax.scan(body, start(params), (batch.xs, batch.weights, weights_TB))[1].sum()

    def of_strategy(params):
        return strategy.estimate(problem, params, start, memory, batch, noise).grads

    def with_second(gradient):
        def along(params):
            grads = gradient(params)
            return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, grads, direction))), grads

        second, grads = jax.grad(along, has_aux=True)(params)
        return grads, second

    return with_second(of_strategy), with_second(jax.grad(loss))


def _weighted(weights_B, leaf):
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return leaf
    constant = jax.lax.stop_gradient(leaf)
    return constant + weights_B.reshape(B, *(1,) * (leaf.ndim - 1)) * (leaf - constant)
