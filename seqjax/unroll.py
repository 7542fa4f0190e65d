"""A step for one sequence, scanned over time for many, with gates on what the gradient passes through."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

Gates = Float[Array, "T ..."] | None
"""What the tangent of the state that enters each step is multiplied by: float[T] or float[T, B]; None: all ones."""


@jax.custom_jvp
def _identity(x, gate):
    return x


@_identity.defjvp
def _gate_tangent(primals, tangents):
    (x, gate), (dx, _) = primals, tangents
    return x, dx * gate


def apply_gate(state: Any, gate: Float[Array, "..."]) -> Any:
    """The same state, with the tangents of its float leaves multiplied by `gate`.

    `gate` is float[] or float[B], state leaves [B, ...]; it is cast to each leaf's dtype.
    """

    def leaf(x):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        return _identity(x, gate.astype(x.dtype).reshape(gate.shape + (1,) * (x.ndim - gate.ndim)))

    return jax.tree.map(leaf, state)


def unroll(step: Callable, state: Any, xs: PyTree, gates: Gates = None) -> Any:
    """Scans a step written for one sequence over time, for B rows side by side.

    Args:
        step: (state, x) -> (state, output), one sequence, one time step.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].
        gates: before step t the incoming state's tangent is multiplied by gates[t]; its value is untouched. All ones is
            full backpropagation through time, a zero cuts.

    Returns:
        The state after the last step, leaves [B, ...], and the outputs, leaves [T, B, ...].
    """
    rows = jax.vmap(step)

    def body(state, inputs):
        x, gate = inputs
        return rows(state if gate is None else apply_gate(state, gate), x)

    return jax.lax.scan(body, state, (xs, gates))
