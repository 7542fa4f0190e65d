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
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Bool

from seqjax.gradients.steps.jaxprs import all_equations


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


ANY_RUNNING = Primitive("any_running")
ANY_RUNNING.def_impl(lambda running: running)
ANY_RUNNING.def_abstract_eval(lambda running: running)
mlir.register_lowering(ANY_RUNNING, lambda context, running: [running])
OF_RUNNING = Primitive("of_running")
OF_RUNNING.def_impl(lambda value, running: value)
OF_RUNNING.def_abstract_eval(lambda value, running: value)
mlir.register_lowering(OF_RUNNING, lambda context, value, running: [value])
# The derivative of `of_running`, which is linear and its own transpose: zero in a row that has stopped.
ZERO_STOPPED = Primitive("zero_stopped")
ZERO_STOPPED.def_impl(lambda value, running: value)
ZERO_STOPPED.def_abstract_eval(lambda value, running: value)
mlir.register_lowering(ZERO_STOPPED, lambda context, value, running: [value])


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


def _of_running_derivative(primals, tangents):
    tangent = tangents[0]
    if not isinstance(tangent, ad.Zero):
        tangent = ZERO_STOPPED.bind(tangent, primals[1])
    return of_running(*primals), tangent


def _zero_stopped_derivative(primals, tangents):
    tangent = tangents[0]
    if not isinstance(tangent, ad.Zero):
        tangent = ZERO_STOPPED.bind(tangent, primals[1])
    return ZERO_STOPPED.bind(*primals), tangent


def _zero_stopped_transposed(cotangent, value, running):
    return cotangent if isinstance(cotangent, ad.Zero) else ZERO_STOPPED.bind(cotangent, running), None


batching.primitive_batchers[ANY_RUNNING] = _any_of_rows
batching.primitive_batchers[OF_RUNNING] = _of_running_rows
batching.primitive_batchers[ZERO_STOPPED] = _zero_stopped_rows
ad.primitive_jvps[OF_RUNNING] = _of_running_derivative
ad.primitive_jvps[ZERO_STOPPED] = _zero_stopped_derivative
ad.primitive_transposes[ZERO_STOPPED] = _zero_stopped_transposed
