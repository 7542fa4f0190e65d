"""Backpropagation through time, truncated k2 steps back every k1 steps."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Error, Gradient, register
from seqjax.gradients import Estimate, check_edge_weights, segment_edges, weighted_sum

NumSteps = Annotated[int, Interval(ge=1)]


@register("gradient", "k1k2")
@dataclass(frozen=True)
class K1K2(Gradient):
    """Every k1 steps, differentiates the losses of the last k1 steps, k2 steps back.

    The losses of steps j k1 <= t < (j + 1) k1 reach back to step a_j = (j + 1) k1 - k2, or to the window's start,

        dh_t/dw = ∂f/∂w + ξ_t ∂f/∂h dh_{t-1}/dw,   ξ_t = 0 if t = a_j > 0, else 1

    so a loss keeps between k2 - k1 + 1 and k2 steps. This is the BPTT(h; h') of Williams & Peng (1990, "An efficient
    gradient-based algorithm for on-line training of recurrent network trajectories") with h = k2, h' = k1. Steps that
    a window lacks at its end count as unscored. k1 = k2 is `truncated`. k1 = 1 is `sliding`, except that the first k2
    losses, and not the first k2 - 1, reach a learned initial state.

    k1 = k2 takes one pass. Otherwise one forward pass gives the states at all a_j, and the parts that reach back to
    them run side by side, as further rows: at most k2/k1 + 1/3 of the time of `full`, and k2/k1 of its bytes.
    """

    k1: NumSteps = 10
    """The number of steps from one differentiation to the next."""
    k2: NumSteps = 20
    """The number of steps that each differentiation goes back, at least k1."""

    claim = "biased"
    of = "window"

    def __post_init__(self):
        super().__post_init__()
        if self.k2 < self.k1:
            raise Error(
                f"K1K2 cannot be made: k2 = {self.k2} < k1 = {self.k1}, so that no step's loss would reach the steps "
                "between; make k2 at least k1"
            )

    def estimate(self, problem, params, start, memory, batch, noise):
        one_pass = self.k1 == self.k2
        if one_pass:
            check_edge_weights(problem, params, start(params), batch.xs)
        unroll = self._unroll_once(problem, start, batch) if one_pass else self._unroll(problem, params, start, batch)
        (loss, state), grads = jax.value_and_grad(unroll, has_aux=True)(params)
        return Estimate(loss, grads, state, memory)

    def _unroll_once(self, problem, start, batch):
        """The function params -> (loss, state after the last step), where every a_j is a multiple of k1."""
        edge_weights_T = segment_edges(len(batch.weights), self.k1)

        def loss(params):
            state, losses = problem.unroll(params, start(params), batch.xs, edge_weights_T, scored=batch.weights != 0)
            return weighted_sum(batch.weights, losses), state

        return loss

    def _unroll(self, problem, params, start, batch):
        """The function params -> (loss, state after the last step), for k1 < k2.

        The window is taken in three kinds of pieces. The head holds all blocks of k1 losses that reach back to the
        window's start, and is one pass. Each later whole block starts k2 steps before its end, from a state that is a
        constant; all of them run side by side as rows, [blocks rows]. The rest is a last block of fewer than k1 losses.
        """
        k1, k2, (num_steps, num_rows) = self.k1, self.k2, batch.weights.shape
        head = min(k2 // k1 * k1, num_steps)
        whole, rest = divmod(num_steps - head, k1)
        first, tail = head + k1 - k2, head + whole * k1  # the first a_j > 0, and the first step of the rest
        if whole or rest:
            entering, end = _states(problem, params, start(params), batch.xs, first, k1, whole + (rest > 0))
            weights = batch.weights[head:tail].reshape(whole, k1, num_rows)
            weights = weights.swapaxes(0, 1).reshape(k1, whole * num_rows)

        def side_by_side(begin, stop):
            """Steps a_j + begin <= t < a_j + stop of all whole blocks, leaves [stop - begin, blocks rows, ...]."""
            t = first + k1 * jnp.arange(whole) + jnp.arange(begin, stop)[:, None]
            return jax.tree.map(lambda x: x[t].reshape(stop - begin, whole * num_rows, *x.shape[2:]), batch.xs)

        def loss_of(params, state, xs, weights):
            state, losses = problem.unroll(params, state, xs, scored=weights != 0)
            return state, weighted_sum(weights, losses)

        def loss(params):
            end_, total = loss_of(params, start(params), _part(batch.xs, 0, head), batch.weights[:head])
            if whole:
                # The first k2 - k1 steps of a block lead up to its losses. Their own losses belong to other blocks, so
                # they are run apart, and what a block does not score is never differentiated.
                state = _part(entering, 0, whole * num_rows)
                state, _ = problem.unroll(params, state, side_by_side(0, k2 - k1))
                total += loss_of(params, state, side_by_side(k2 - k1, k2), weights)[1]
            if rest:
                state = _part(entering, whole * num_rows, None)
                scored = batch.weights[first + whole * k1 :] != 0
                scored &= (jnp.arange(len(scored)) >= k2 - k1)[:, None]
                _, losses = problem.unroll(params, state, _part(batch.xs, first + whole * k1, None), scored=scored)
                total += weighted_sum(batch.weights[tail:], losses[k2 - k1 :])
            return total, end if whole or rest else end_

        return loss


def _states(problem, params, state, xs, first, k1, num_chunks):
    """The states that enter steps `first`, first + k1, ..., leaves [blocks rows, ...], and that after the last step."""

    def segment(state, xs):
        after, _ = problem.unroll(params, state, xs)
        return after, state

    last = first + (num_chunks - 1) * k1
    segments = jax.tree.map(lambda a: a.reshape(num_chunks - 1, k1, *a.shape[1:]), _part(xs, first, last))
    state, _ = problem.unroll(params, state, _part(xs, 0, first))
    state, entering = jax.lax.scan(segment, state, segments)
    end, _ = problem.unroll(params, state, _part(xs, last, None))

    def rows(before, last):
        return jnp.concatenate([before, last[None]]).reshape(num_chunks * last.shape[0], *last.shape[1:])

    return jax.tree.map(rows, entering, state), end


def _part(xs, first, last):
    """Entries first <= t < last of each leaf."""
    return jax.tree.map(lambda a: a[first:last], xs)
