"""Steps of a loop in which, under `jax.vmap`, some rows have stopped.

Under `jax.vmap` a row that has stopped must not execute further steps: a step may be undefined after the stop, and its
derivative times the zero cotangent of a stopped row would be NaN. `jax.lax.cond` becomes a selection there, which
executes the step for all rows. So a stopped row executes the step of a row that is still running, and its result is
dropped. What all rows share, such as the parameters, stays shared. A step is left out when all rows have stopped.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching
from jaxtyping import Array, Bool

from seqjax.gradients.steps.jaxprs import all_equations
from seqjax.gradients.steps.primitives import first_argument


def run_where_running[T](step: Callable[[Any, T], T], closed_over: Any, state: T, running: Bool[Array, ""]) -> T:
    """The state after a step if `running`, else the same state.

    Args:
        step: (closed_over, state) -> state, for one row.
        closed_over: the arrays that the step reads besides the state; a step must not close over arrays whose
            derivative may not be finite after the stop.
        state: any pytree.
        running: whether this row is still running. Under `jax.vmap` it differs between rows.
    """

    def execute(closed_over, state):
        inputs = jax.tree.map(lambda a: of_running(a, running), (closed_over, state))
        return jax.tree.map(lambda new, old: jnp.where(running, new, old), step(*inputs), state)

    # The reverse pass reads `of_running(a)`. Without the policy it would keep a copy of all parameters for each step.
    # JAX up to 0.12 fails to keep complex numbers by a policy (`reduce_precision`), so such a step is computed again.
    policy = None if _has_complex(step, closed_over, state) else _all_but_of_running
    execute = jax.checkpoint(execute, prevent_cse=False, policy=policy)
    return jax.lax.cond(any_running(running), execute, lambda _, state: state, closed_over, state)


def _all_but_of_running(primitive, *_, **__):
    return primitive is not OF_RUNNING


def _has_complex(step, *arguments):
    """Whether a step has complex numbers anywhere."""
    equations = all_equations(jax.make_jaxpr(step)(*arguments).jaxpr)
    values = (v.aval for equation in equations for v in (*equation.invars, *equation.outvars))
    return any(jnp.issubdtype(getattr(value, "dtype", bool), jnp.complexfloating) for value in values)


def any_running(running: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether any row is running: under `jax.vmap` one boolean for all rows."""
    return ANY_RUNNING.bind(running)


def of_running(value: Any, running: Bool[Array, ""]) -> Any:
    """`value`, and in a row that has stopped the value of a row that is running, with no tangent.

    A value that all rows share is returned as it is.
    """
    return OF_RUNNING.bind(value, running)


ANY_RUNNING = first_argument("any_running")
OF_RUNNING = first_argument("of_running")
# The derivative of `of_running`, which is linear and its own transpose: zero in a row that has stopped.
ZERO_STOPPED = first_argument("zero_stopped")


def _any_of_rows(arguments, axes):
    # Bound again, since an outer `vmap` may have rows of rows.
    return any_running(jnp.any(arguments[0], axes[0])), None


def _of_running_rows(arguments, axes):
    (value, running), (value_axis, running_axis) = arguments, axes
    if running_axis is None:
        return of_running(value, running), value_axis
    any_row = jnp.any(running, running_axis)
    if value_axis is None:
        return of_running(value, any_row), value_axis
    rows = jnp.moveaxis(value, value_axis, 0)
    row = jax.lax.stop_gradient(jax.lax.dynamic_index_in_dim(rows, jnp.argmax(running), 0))
    return of_running(jnp.where(_like(running, rows), rows, row), any_row), 0


def _zero_stopped_rows(arguments, axes):
    (value, running), (value_axis, running_axis) = arguments, axes
    if running_axis is None:
        return ZERO_STOPPED.bind(value, running), value_axis
    if value_axis is None:
        return ZERO_STOPPED.bind(value, jnp.any(running, running_axis)), value_axis
    rows = jnp.moveaxis(value, value_axis, 0)
    return jnp.where(_like(running, rows), rows, jnp.zeros_like(rows)), 0


def _like(running, rows):
    return running.reshape(running.shape + (1,) * (rows.ndim - 1))


def _zero_stopped(tangent, running):
    return tangent if isinstance(tangent, ad.Zero) else ZERO_STOPPED.bind(tangent, running)


batching.primitive_batchers[ANY_RUNNING] = _any_of_rows
batching.primitive_batchers[OF_RUNNING] = _of_running_rows
batching.primitive_batchers[ZERO_STOPPED] = _zero_stopped_rows
for _primitive in (OF_RUNNING, ZERO_STOPPED):
    ad.primitive_jvps[_primitive] = lambda primals, tangents, primitive=_primitive: (
        primitive.bind(*primals),
        _zero_stopped(tangents[0], primals[1]),
    )
ad.primitive_transposes[ZERO_STOPPED] = lambda cotangent, value, running: (_zero_stopped(cotangent, running), None)
