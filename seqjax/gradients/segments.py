"""Differentiates a window segment after segment, so that the residuals of the whole window are never kept."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.gradients.base import Batch, Estimate, Memory, Start, weighted_sum
from seqjax.gradients.floats import combine, partition_float
from seqjax.gradients.problem import Params, Problem


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
    lies `lead` steps before it, which is a constant. The segments that reach back to the start of the window are
    differentiated together, through `start`. The others follow one by one inside of a scan, so that the residuals of
    size + lead steps are kept, and not those of T steps. Each step is computed 1 + lead / size times.

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
    head = min((size + lead) // size * size, num_steps)
    num_segments, rest = divmod(num_steps - head, size)
    first_start = max(head - lead, 0)  # the step that the state of the first segment enters
    floats, others, join, pull_inputs = _inputs(problem, params, batch)
    window = floats, (others, batch.weights, edge_weights)

    def loss(params, floats, state, others, lead, mid):
        xs, weights, edges = others
        return _run(problem, params, state, join(floats, xs), weights, edges, lead, mid)

    def head_loss(params, floats, others):
        return loss(params, floats, start(params), others, 0, first_start)

    def segment(carry, _):
        first, grads, total, state, pending, _ = carry
        floats, others = _steps(window, first, size + lead)
        (more, (state, end, outputs)), (added, d_floats) = differentiate(params, floats, state, others, lead, size)
        done, pending = _add_pending(pending, d_floats, size)
        return (first + size, _add(grads, added), total + more, state, pending, end), (done, outputs)

    # The last two arguments of `loss` are numbers of steps, and `differentiate` is never compiled on its own.
    differentiate = jax.value_and_grad(loss, (0, 1), has_aux=True)
    floats, others = _steps(window, 0, head)
    found = jax.value_and_grad(head_loss, (0, 1), has_aux=True)(params, floats, others)
    (total, (state, end, outputs)), (grads, d_floats) = found
    done, pending = _split(d_floats, first_start)
    carry, parts = (jnp.int32(first_start), grads, total, state, pending, end), [(done, outputs)]

    if num_segments:
        carry, several = jax.lax.scan(segment, carry, length=num_segments)
        parts.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), several))
    _, grads, total, state, pending, end = carry
    if rest:
        floats, others = _steps(window, num_steps - rest - lead, rest + lead)
        (more, (_, end, outputs)), (added, d_floats) = differentiate(params, floats, state, others, lead, rest)
        grads, total = _add(grads, added), total + more
        done, pending = _add_pending(pending, d_floats, rest)
        parts.append((done, outputs))

    d_inputs, outputs = jax.tree.map(lambda *a: jnp.concatenate(a), *parts)
    if pull_inputs is not None:
        d_inputs = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), d_inputs, pending)
        grads = _add(grads, pull_inputs(d_inputs)[0])
    return Estimate(total, grads, end, Memory(), outputs)


def _inputs(problem: Problem, params: Params, batch: Batch) -> tuple[PyTree, PyTree, Callable, Callable | None]:
    """What the steps read, as float leaves that are differentiated, other leaves, and a function that joins them.

    Returns:
        The two trees, the function, and the pull-back of the float leaves to the parameters; the first and the last one
        are None if what the steps read does not depend on the parameters.
    """
    if not problem.has_own_inputs:
        return None, batch.xs, lambda floats, others: others, None
    floats, pull = jax.vjp(lambda params: partition_float(problem.inputs(params, batch.xs))[0], params)
    return floats, partition_float(batch.xs)[1], combine, pull


def _run(problem, params, state, xs, weights, edges, lead, mid):
    """Unrolls the steps of a segment.

    Returns:
        The loss of the steps from `lead` on; the state that enters step `mid`, the state after the last step, and the
        outputs of the steps from `lead` on.
    """
    num_steps, totals, entering, found = len(weights), [], state, []
    bounds = sorted({0, lead, min(mid, num_steps), num_steps})
    for first, last in itertools.pairwise(bounds):
        xs_part, weights_part, edges_part = _steps((xs, weights, edges), first, last - first)
        if first < lead:
            # The losses of these steps belong to the segments before this one, so they are not differentiated here.
            state, _ = problem.unroll(params, state, xs_part, edges_part)
        else:
            state, losses, outputs = problem.unroll_with_outputs(params, state, xs_part, edges_part, weights_part != 0)
            totals.append(weighted_sum(weights_part, losses))
            found.append(outputs)
        if last == mid:
            entering = state
    return sum(totals), (entering, state, jax.tree.map(lambda *a: jnp.concatenate(a), *found))


def _steps(tree, first, count):
    """`count` steps from step `first` on, which may be traced."""
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, count), tree)


def _split(tree, n):
    return jax.tree.map(lambda a: a[:n], tree), jax.tree.map(lambda a: a[n:], tree)


def _add(one, other):
    return jax.tree.map(jnp.add, one, other)


def _add_pending(pending, cotangents, size):
    """Adds the cotangents of the inputs of one segment to those that the segments before left for its first steps.

    Returns:
        The cotangents of the first `size` steps, to which no later segment adds, and those of the others.
    """
    whole = jax.tree.map(lambda a, b: b.at[: len(a)].add(a), pending, cotangents)
    return _split(whole, size)
