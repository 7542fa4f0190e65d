"""Cotangents of the state, one for each number of steps that a gradient travels back.

For a step (s_t, l_t) = f(θ, s_{t-1}, x_t) let J_t = ∂s_t/∂s_{t-1}, I_t = ∂s_t/∂θ, q_t = w_t ∂l_t/∂s_{t-1}. The
derivative of the loss of step t + k by the state s_t is the cotangent λ^(k)_t. These cotangents follow

    λ^(1)_{t-1} = q_t,   λ^(k+1)_{t-1} = λ^(k)_t J_t

The part of the gradient that travels exactly k steps back is G_0 = Σ_t w_t ∂l_t/∂θ, with s_{t-1} held fixed, and
G_k = Σ_t λ^(k)_t I_t. A strategy that sums chosen parts records the steps of a window once (`record_steps`), carries as
many cotangents backwards as it needs (`StepDerivatives.back`), and multiplies them with all I_t at once
(`StepDerivatives.to_params`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, PyTree

from seqjax.gradients.base import weighted_sum
from seqjax.gradients.floats import split_float
from seqjax.gradients.mapping import mapped
from seqjax.gradients.problem import Params, Problem, State
from seqjax.gradients.scored import replace_unscored


class RecordedSteps(NamedTuple):
    """The steps of a window with the states that enter them, leaves [T, B, ...].

    Args:
        floats: the float leaves of the states that enter the steps.
        others: the other leaves of these states.
        xs: what the steps read.
        weights: float[T, B], the weights of the losses.
    """

    floats: list
    others: list
    xs: Any
    weights: Any


def record_steps(
    problem: Problem, params: Params, state: State, xs: PyTree, weights: Float[Array, "T B"]
) -> tuple[State, Float[Array, "T B"], RecordedSteps]:
    """Runs a window forwards, and keeps the state that enters each step.

    Args:
        problem: its `step` is run.
        params: the parameters.
        state: the state in which the window starts, leaves [B, ...].
        xs: what the steps read, leaves [T, B, ...].
        weights: the weights of the losses.

    Returns:
        The state after the last step, the losses float[T, B], and the steps.
    """
    rows = jax.vmap(problem.step, (None, 0, 0))

    def body(state, x):
        after, losses = rows(params, state, x)
        return after, (losses, *split_float(state)[:2])

    state, (losses, floats, others) = jax.lax.scan(body, state, xs)
    return state, losses, RecordedSteps(floats, others, xs, weights)


class StepDerivatives(NamedTuple):
    """The derivatives of a problem's step at given parameters, for B rows.

    Args:
        problem: its `step` is differentiated.
        params: the parameters at which it is differentiated.
        join: (float leaves, other leaves) -> state, as returned by `split_float`.
        one_by_one: whether the step sees `vmap`, so that steps and cotangents are taken one after the other.
    """

    problem: Problem
    params: Any
    join: Any
    one_by_one: bool

    @classmethod
    def of(cls, problem: Problem, params: Params, state: State, xs: PyTree) -> "StepDerivatives":
        """Returns the derivatives at `params` for states like `state`, [B, ...], and inputs like `xs`, [T, B, ...]."""
        return cls(problem, params, split_float(state)[2], problem.sees_vmap(params, state, xs))

    def of_losses(self, steps: RecordedSteps) -> tuple[Params, list]:
        """G_0, like the parameters, and the q_t of all steps, leaves [T, B, ...]."""
        # These states are constants here, so a loss that does not count can be taken at another step's state and input.
        floats, others, xs = replace_unscored((steps.floats, steps.others, steps.xs), steps.weights != 0)

        def weighted(params, floats, others, x, weights):
            return weighted_sum(weights, self._rows(params, floats, others, x)[1])

        def total(params, floats):
            all_steps = mapped(weighted, (None, 0, 0, 0, 0), len(steps.weights), self.one_by_one)
            return all_steps(params, floats, others, xs, steps.weights).sum()

        return jax.grad(total, (0, 1))(self.params, floats)

    def back(self, cotangents: list, step: RecordedSteps) -> list:
        """The products λ J_t with the Jacobian of one step, for K cotangents λ side by side.

        Args:
            cotangents: of the state after the step, leaves [K, B, ...], in the order of `floats`.
            step: one entry of the recorded steps, leaves [B, ...].
        """
        if not cotangents:
            return []
        _, pull = jax.vjp(lambda floats: self._next(self.params, floats, step.others, step.xs), step.floats)
        return mapped(lambda each: pull(each)[0], (0,), len(cotangents[0]), self.one_by_one)(cotangents)

    def to_params(self, steps: RecordedSteps) -> Callable[[list], Params]:
        """The function from cotangents with leaves [T, B, ...] to Σ_t λ_t I_t: one product over all steps."""

        def all_steps(params):
            advance = mapped(self._next, (None, 0, 0, 0), len(steps.weights), self.one_by_one)
            return advance(params, steps.floats, steps.others, steps.xs)

        pull = jax.vjp(all_steps, self.params)[1]
        return lambda cotangents: pull(cotangents)[0]

    def _rows(self, params, floats, others, x):
        return jax.vmap(self.problem.step, (None, 0, 0))(params, self.join(floats, others), x)

    def _next(self, params, floats, others, x):
        return split_float(self._rows(params, floats, others, x)[0])[0]


def scan_blocks[T](block: Callable[[T, Any], T], carry: T, steps: Any, size: int) -> T:
    """Passes a carry backwards through blocks of consecutive steps, so that only one block is worked on at a time.

    Args:
        block: (carry, steps of a block) -> carry.
        carry: what enters the last block.
        steps: leaves [T, ...], such as `RecordedSteps`.
        size: the number of steps of a block; an incomplete block lies at the end of the window, and is processed first.

    Returns:
        The carry after the first block.
    """
    num_steps = len(jax.tree.leaves(steps)[0])
    whole = num_steps - num_steps % size
    if whole < num_steps:
        carry = block(carry, jax.tree.map(lambda a: a[whole:], steps))
    blocks = jax.tree.map(lambda a: a[:whole].reshape(whole // size, size, *a.shape[1:]), steps)
    return jax.lax.scan(lambda carry, steps: (block(carry, steps), None), carry, blocks, reverse=True)[0]
