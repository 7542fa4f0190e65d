"""Backpropagation through the last steps of a stream, across windows."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Error, SequenceGradient, register
from seqjax.gradients import Memory, known_input, mapped, ravel_float, record, weighted_sum, where_rows
from seqjax.gradients.influence.trajectory import scan_blocks
from seqjax.gradients.steps.dependence import depends_on
from seqjax.gradients.steps.scored import split_step

BLOCK = 64
"""The number of losses that are differentiated side by side."""


class Past(NamedTuple):
    """Steps of one sequence, as they are needed to repeat them, leaves [n, ...].

    Args:
        floats: the floats of the states that entered the steps, float[n, S].
        others: the other leaves of these states.
        read: the leaves of what the steps read on which the next state depends.
        begins: bool[n], whether a sequence began with the step.
    """

    floats: Any
    others: Any
    read: Any
    begins: Any


@register("gradient", "rolling")
@dataclass(frozen=True)
class Rolling(SequenceGradient):
    """Differentiates each loss through exactly its last `steps` steps, also across windows: TBPTT(K) at every step.

        g = Σ_t w_t d/dθ l(θ, s_{t-1}(θ), x_t),   s_u(θ) = f(θ, s_{u-1}(θ), x_u) for u > t - K,   s_{t-K} constant

    (Williams & Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories": BPTT(K) with an update after every step). The steps t - K + 1 to t are repeated with the present
    parameters, from the state that entered the first of them when it was read. The repetition begins anew where a
    sequence began, and the state in which a sequence begins is a constant, learned or not. Losses, outputs and the next
    state are those of the stream, not of the repetition. At fixed parameters the gradient has the parts of lags 0 to
    K - 1 of the gradient of the history (`lags`).

    A row carries the inputs of the last K - 1 steps and the states that entered them: of what a step reads only the
    leaves on which the next state depends, so no targets. Each loss takes K steps forwards and backwards. The losses of
    a window are differentiated side by side, `BLOCK` of them at a time.
    """

    cites = ("williams1990efficient",)

    steps: Annotated[int, Interval(ge=1)] = 10
    """K, the number of steps that each loss is differentiated through, including its own."""

    claim = "biased"
    of = "history"
    argnums = (0,)
    learns_start = False

    def init(self, problem, params, state, x=None):
        """No steps so far. The first step that follows begins a sequence."""
        x = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), known_input(self, problem, x))
        s, others, _ = ravel_float(state)
        entry = Past(s, others, _chosen(x, _state_reads(problem.own.step, params, state, x)), jnp.zeros((), bool))
        past = jax.tree.map(lambda a: jnp.broadcast_to(a, (self.steps - 1, *a.shape)), entry)
        return Memory(rows=(past, jnp.ones((), bool)))

    def one(self, problem, params, start, memory, xs, weights, noise):
        kept, starts = memory.rows
        end, trajectory = record(problem, params, start, xs, weights)
        steps, num_steps, num_past = trajectory.steps, len(weights), self.steps - 1
        one_step = jax.tree.map(lambda a: a[0], steps)
        state = trajectory.join(one_step.floats, one_step.others)
        is_read = _state_reads(trajectory.problem.step, params, state, one_step.xs)
        begins = jnp.zeros(num_steps, bool) if steps.reset is None else steps.reset
        window = Past(steps.floats, steps.others, _chosen(steps.xs, is_read), begins.at[0].set(begins[0] | starts))
        past = jax.tree.map(_joined, kept, window)

        def loss(params, t):
            """The loss of step t of the window, through its last K steps: the entries t to t + K - 1 of `past`."""
            begins = jax.lax.dynamic_slice_in_dim(past.begins, t, self.steps)
            oldest = jnp.max(jnp.where(begins, jnp.arange(self.steps), 0))
            # Entries before the oldest are not used. Copies of it take their place, at which no derivative is NaN.
            reach = jax.tree.map(lambda a: a[t + jnp.maximum(jnp.arange(self.steps), oldest)], past)
            x = jax.tree.map(lambda a: a[t], steps.xs)

            def repeat(carry, inputs):
                u, entry = inputs
                s, others = where_rows(u <= oldest, (entry.floats, entry.others), carry)
                return trajectory.step(params, s, others, _with_chosen(x, is_read, entry.read))[0], None

            before, last = jax.tree.map(lambda a: a[:num_past], reach), jax.tree.map(lambda a: a[num_past], reach)
            entering = last.floats, last.others
            carry, _ = jax.lax.scan(repeat, entering, (jnp.arange(num_past), before))
            return trajectory.step(params, *where_rows(oldest == num_past, entering, carry), x)[1]

        scored = weights != 0

        def block(grads, inputs):
            t, weights = inputs
            # A loss of weight 0 is taken at another step, where its derivative is not NaN.
            t = jnp.where(weights != 0, t, jnp.argmax(scored))
            losses = lambda params: mapped(loss, (None, 0), len(t), trajectory.one_by_one)(params, t)
            own = jax.grad(lambda params: weighted_sum(weights, losses(params)))(params)
            return jax.tree.map(jnp.add, grads, own)

        numbered = jnp.arange(num_steps), weights
        grads = scan_blocks(block, jax.tree.map(jnp.zeros_like, params), numbered, min(BLOCK, num_steps))
        grads = jax.tree.map(lambda a: jnp.where(scored.any(), a, 0), grads)
        kept = jax.tree.map(lambda a: a[num_steps:], past)
        value = weighted_sum(weights, trajectory.of_losses().losses)
        return value, grads, end, Memory(rows=(kept, starts & False))


def _joined(kept, window):
    """What was kept and what a window adds, [K - 1 + T, ...], with the dtype that is kept."""
    if jnp.issubdtype(kept.dtype, jax.dtypes.prng_key):
        return jnp.concatenate([kept, window])
    if jnp.promote_types(kept.dtype, window.dtype) != kept.dtype:
        raise Error(
            f"rolling keeps what the steps read as {kept.dtype}, as the example x was, and this step reads "
            f"{window.dtype}: pass an example of this dtype to init_memory or learner.init"
        )
    return jnp.concatenate([kept, window.astype(kept.dtype)])


def _state_reads(step, params, state, x):
    """For each leaf of what a step reads, whether the next state depends on it."""
    advance, _ = split_step(step, params, state, x)
    return depends_on(lambda x: advance(params, state, x)[0], x)


def _chosen(tree, is_chosen):
    """The chosen leaves of a tree."""
    return [a for a, use in zip(jax.tree.leaves(tree), is_chosen, strict=True) if use]


def _with_chosen(tree, is_chosen, chosen):
    """The tree with other values of its chosen leaves."""
    new, leaves = iter(chosen), jax.tree.leaves(tree)
    leaves = [next(new) if use else a for a, use in zip(leaves, is_chosen, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)
