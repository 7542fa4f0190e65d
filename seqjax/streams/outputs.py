"""Outputs of a problem, and their gradients through the history."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.contract.problem import Params, Problem, State
from seqjax.gradients.contract.rows import as_row, average_shared
from seqjax.gradients.contract.window import Batch, Estimate
from seqjax.gradients.steps.precision import is_float
from seqjax.models.model import ModelProblem


def outputs_of(problem: Problem, params: Params, state: State, xs: PyTree) -> PyTree:
    """What a window of one step returns beside its losses, leaves [B, ...].

    Args:
        problem: a problem whose steps have outputs.
        params: the parameters.
        state: the state that enters the step, leaves [B, ...].
        xs: what the step reads, leaves [1, B, ...]; of a model the input alone.
    """
    if isinstance(problem, ModelProblem):
        return problem.outputs(params, state, xs)[1][0]
    x = jax.tree.map(lambda a: a[0], problem.read(params, xs))
    (_, outputs), _ = jax.vmap(problem.step_with_outputs, (None, 0, 0))(params, state, x)
    return outputs


def has_outputs(problem: Problem) -> bool:
    """Whether the steps of a problem return something beside their losses."""
    return isinstance(problem, ModelProblem) or problem.with_outputs is not None


def problem_of_outputs(problem: Problem) -> Problem:
    """The problem whose loss is <c, output>, and whose steps read (x, c); of a model, x is the input alone.

    The problem of a model stays one, so that all is known of it that was known before.
    """
    if isinstance(problem, ModelProblem):
        return problem.model.problem(problem.spec, _product, problem.precision)

    def step(params, state, x):
        (new, outputs), _ = problem.step_with_outputs(params, state, x[0])
        return new, _product(outputs, x[1])

    def read(params, xs):
        return problem.read(params, xs[0]), xs[1]

    return problem.changed(step=step, inputs=None if problem.inputs is None else read)


def problem_without_loss(problem: ModelProblem) -> ModelProblem:
    """The problem of the model whose losses are zero, and whose steps read (input, ())."""
    return problem.model.problem(problem.spec, lambda output, target: jnp.zeros(()), problem.precision)


def _product(outputs: PyTree, cotangents: PyTree) -> jax.Array:
    """<c, output>, over the float leaves of the output."""
    pairs = zip(jax.tree.leaves(outputs), jax.tree.leaves(cotangents), strict=True)
    products = [jnp.sum(a * jax.lax.stop_gradient(c).astype(a.dtype)) for a, c in pairs if is_float(a)]
    return sum(products, jnp.zeros(()))


def have_leading_axis(cotangents: PyTree, outputs: PyTree) -> bool:
    """Whether there are several cotangents, with one leading axis more than the outputs.

    Raises:
        Error: they are neither like the outputs, nor like several of them.
    """
    pairs = list(zip(jax.tree.leaves(cotangents), jax.tree.leaves(outputs), strict=False))
    # Trees of traced and of other arrays may differ in what they hold beside their structure.
    if str(jax.tree.structure(cotangents)) == str(jax.tree.structure(outputs)):
        if all(c.shape == a.shape for c, a in pairs):
            return False
        if all(c.shape[1:] == a.shape for c, a in pairs) and len({c.shape[:1] for c, _ in pairs}) == 1:
            return True
    given, wanted = (jax.tree.map(dtype_shape, tree) for tree in (cotangents, outputs))
    raise Error(
        f"Learner.gradients: cotangents must be like the output, {wanted}, or have one leading axis more, for several "
        f"gradients; they are {given}"
    )


def for_several(estimate: Callable[[PyTree], tuple[Params, Any]], cotangents: PyTree) -> tuple[Params, Any]:
    """The gradients of several cotangents side by side, and what is carried, which is the same for all of them.

    Args:
        estimate: cotangents of one output -> (gradient, what is carried to the next step).
        cotangents: leaves [C, ...].

    Raises:
        Error: what is carried depends on the cotangents.
    """
    try:
        return jax.vmap(estimate, out_axes=(0, None))(cotangents)
    except ValueError as fault:
        jax.eval_shape(jax.vmap(estimate), cotangents)  # raises all errors but that of a carry which differs
        raise Error(
            "Learner.gradients: as far as JAX can tell, what this strategy carries depends on the losses, so that "
            "several cotangents in one call would leave several memories: pass one, or take a strategy such as rtrl"
        ) from fault


def by_rows(estimate: Callable[[Any, Batch], Estimate], state: Any, batch: Batch) -> Estimate:
    """The estimate of each row alone: its gradients and losses have a first axis [B].

    Args:
        estimate: (state, batch) -> the estimate of all rows together.
        state: the state of a learner of B rows.
        batch: the window of B rows.
    """

    def one(carry, rows, xs, weights, reset, row):
        carry, rows, reset, row = as_row((carry, rows, reset, row))
        xs, weights = as_row((xs, weights), axis=1)
        own = state._replace(carry=carry, memory=state.memory._replace(rows=rows))
        found = estimate(own, Batch(xs, weights, reset, row))
        carry, rows = jax.tree.map(lambda a: a[0], (found.state, found.memory.rows))
        return found._replace(state=carry, memory=found.memory._replace(rows=rows))

    found = jax.vmap(one, (0, 0, 1, 1, 0, 0))(state.carry, state.memory.rows, *batch)
    return found._replace(memory=average_shared(found.memory))
