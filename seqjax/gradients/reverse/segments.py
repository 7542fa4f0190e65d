"""Differentiates a window segment after segment, so that the residuals of the whole window are never kept."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.gradients.contract.gradient import weighted_sum
from seqjax.gradients.contract.problem import Params, Problem
from seqjax.gradients.contract.window import Batch, Estimate, Memory, Start
from seqjax.gradients.steps.floats import combine, partition_float
from seqjax.gradients.steps.scored import scored_steps
from seqjax.gradients.steps.segmented import Overlap, parts_between


def segment_gradient(
    problem: Problem,
    params: Params,
    start: Start,
    batch: Batch,
    size: int,
    lead: int = 0,
    edge_weights: Float[Array, "T B"] | None = None,
) -> Estimate:
    """The gradient of a window whose losses reach back a limited number of steps.

    The window is cut into segments of `size` steps. The losses of a segment are differentiated back to the state that
    lies `lead` steps before it, which is a constant, in higher derivatives too. The segments that reach back to the
    start of the window are differentiated together, through `start`. The others follow one by one inside of a scan, so
    that the residuals of size + lead steps are kept, not of all T steps. Each step is computed 1 + lead / size times.

    Args:
        problem: its steps are differentiated.
        params: the parameters.
        start: params -> the state in which the window starts, leaves [B, ...].
        batch: the window.
        size: the number of steps of a segment, at least 1.
        lead: the number of steps before a segment to which its losses reach back.
        edge_weights: the weights of the edges inside of the segments; None: all ones.

    Returns:
        The estimate, with an empty memory.
    """
    num_steps = len(batch.weights)
    head, entered, num_segments, rest = Overlap.of(num_steps, size, lead)
    floats, others, join, pull_inputs = _inputs(problem, params, batch)
    scored = scored_steps(batch.weights)
    window = floats, (others, batch.weights, edge_weights, scored)

    def loss(params, floats, state, others, lead, mid):
        xs, *rest = others
        return _run(problem, params, state, (join(floats, xs), *rest), lead, mid)

    def head_loss(params, floats, others):
        return loss(params, floats, start(params), others, 0, entered)

    differentiate = jax.value_and_grad(loss, (0, 1), has_aux=True)

    def segment(sums, count):
        """Adds the next segment, of `count` steps after its lead."""
        floats, others = _steps(window, sums.first, count + lead)
        # A first derivative does not pass the state anyway. A second one must not pass it either, as it does not pass
        # an edge of weight 0.
        state = jax.lax.stop_gradient(sums.state)
        (loss, (state, end, outputs)), (grads, d_floats) = differentiate(params, floats, state, others, lead, count)
        done, pending = _add_pending(sums.pending, d_floats, count)
        grads, loss = _add((sums.grads, sums.loss), (grads, loss))
        return _Sums(grads, loss, sums.first + count, state, end, pending), (done, outputs)

    floats, others = _steps(window, 0, head)
    result = jax.value_and_grad(head_loss, (0, 1), has_aux=True)(params, floats, others)
    (total, (state, end, outputs)), (grads, d_floats) = result
    done, pending = _split(d_floats, entered)
    sums, parts = _Sums(grads, total, jnp.int32(entered), state, end, pending), [(done, outputs)]
    if num_segments:
        sums, several = jax.lax.scan(lambda sums, _: segment(sums, size), sums, length=num_segments)
        parts.append(jax.tree.map(lambda a: a.reshape(num_segments * size, *a.shape[2:]), several))
    if rest:
        sums, last = segment(sums, rest)
        parts.append(last)

    d_inputs, outputs = jax.tree.map(lambda *a: jnp.concatenate(a), *parts)
    grads = sums.grads
    if pull_inputs is not None:
        d_inputs = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), d_inputs, sums.pending)
        grads = _add(grads, pull_inputs(d_inputs)[0])
    return Estimate(sums.loss, grads, sums.end, Memory(), outputs)


class _Sums(NamedTuple):
    """What is carried from segment to segment.

    Args:
        grads: the gradient of the segments so far, like the parameters.
        loss: their loss.
        first: int32[], the step at which the next segment's lead starts.
        state: the state that enters this step.
        end: the state after the last step so far.
        pending: the cotangents of what the last `lead` steps read, to which the next segment adds.
    """

    grads: Any
    loss: Any
    first: Any
    state: Any
    end: Any
    pending: Any


def _inputs(problem: Problem, params: Params, batch: Batch) -> tuple[PyTree, PyTree, Callable, Callable | None]:
    """What the steps read, as float leaves that are differentiated, other leaves, and a function that joins them.

    Returns:
        The two trees, the function, and the pull-back of the float leaves to the parameters; the first and the last one
        are None if what the steps read does not depend on the parameters.
    """
    if problem.inputs is None:
        return None, batch.xs, lambda floats, others: others, None
    floats, pull = jax.vjp(lambda params: partition_float(problem.read(params, batch.xs))[0], params)
    return floats, partition_float(batch.xs)[1], combine, pull


def _run(problem, params, state, steps, lead, mid):
    """Unrolls the steps of a segment, which are (what they read, weights, edge weights, which are scored).

    The state that enters step `mid` is the one from which the next segment starts.

    Returns:
        The loss of the steps from `lead` on; the state that enters step `mid`, the state after the last step, and the
        outputs of the steps from `lead` on.
    """
    num_steps, totals, entering, outputs_of_parts = len(steps[1]), [], state, []
    for first, last in parts_between(lead, mid, num_steps):
        xs, weights, edges, scored = _steps(steps, first, last - first)
        if first < lead:
            # The losses of these steps belong to the segments before this one, so they are not differentiated here.
            state, _ = problem.unroll(params, state, xs, edges)
        else:
            state, losses, outputs = problem.unroll_with_outputs(params, state, xs, edges, scored)
            totals.append(weighted_sum(weights, losses))
            outputs_of_parts.append(outputs)
        if last == mid:
            entering = state
    return sum(totals), (entering, state, jax.tree.map(lambda *a: jnp.concatenate(a), *outputs_of_parts))


def _steps(tree, first, count):
    """`count` steps from step `first` on, which may be traced."""
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, count), tree)


def _split(tree, n):
    return jax.tree.map(lambda a: a[:n], tree), jax.tree.map(lambda a: a[n:], tree)


def _add(one, other):
    return jax.tree.map(jnp.add, one, other)


def _add_pending(pending, cotangents, size):
    """Adds the input cotangents of one segment to the pending ones of its first steps.

    Returns:
        The cotangents of the first `size` steps, to which no later segment adds, and the cotangents of the other steps.
    """
    whole = jax.tree.map(lambda a, b: b.at[: len(a)].add(a), pending, cotangents)
    return _split(whole, size)
