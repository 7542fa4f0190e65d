"""The trajectory of a window: its steps with the states that enter them, and the derivatives of all steps.

For a step (s_t, l_t) = f(θ, s_{t-1}, x_t) let J_t = ∂s_t/∂s_{t-1}, I_t = ∂s_t/∂θ, q_t = w_t ∂l_t/∂s_{t-1}. A window is
run forwards once, and the states are kept. Its steps then do not depend on each other, and are differentiated side by
side:

    of_losses    the losses, Σ_t w_t ∂l_t/∂θ and q_t, with all states held fixed
    back         λ J_t, for cotangents λ of the state after step t
    to_params    Σ_t λ_t I_t, for cotangents λ_t of the states after all steps, as one product

The gradient that travels k steps back is Σ_t λ^(k)_t I_t, where λ^(1)_{t-1} = q_t and λ^(k+1)_{t-1} = λ^(k)_t J_t. The
gradient through the whole history is Σ_t q_t M_{t-1} + w_t ∂l_t/∂θ, where M_t = J_t M_{t-1} + I_t is the influence
∂s_t/∂θ.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, PyTree

from seqjax.gradients.contract.problem import Params, Problem, State, where_rows
from seqjax.gradients.contract.resetting import without_resets
from seqjax.gradients.steps.floats import ravel_float, split_float
from seqjax.gradients.steps.mapping import mapped, sees_vmap
from seqjax.gradients.steps.scored import replace_unscored


class RecordedSteps(NamedTuple):
    """The steps of a window with the states that enter them, leaves [T, ...], or [T, B, ...] of rows.

    Args:
        floats: the floats of the states that enter the steps: the vectors of all numbers, float[T, S], or of rows the
            float leaves.
        others: the other leaves of these states.
        xs: what the steps read.
        weights: the weights of the losses.
        reset: bool[T], the steps of one sequence that begin anew, from states that are in `floats`; None: none does.
    """

    floats: Any
    others: Any
    xs: Any
    weights: Any
    reset: Any = None


class LossDerivatives(NamedTuple):
    """The derivatives of the losses of a window if all states are held fixed.

    Args:
        losses: float[T], or [T, B] of rows. A loss of weight 0 is taken at another step.
        direct: Σ_t w_t ∂l_t/∂θ, like the parameters.
        q: q_t, like `RecordedSteps.floats`.
    """

    losses: Any
    direct: Any
    q: Any


class Trajectory(NamedTuple):
    """The steps of a window, and the parameters at which they are differentiated.

    Args:
        problem: the problem whose steps they are; of one sequence without resets.
        params: the parameters.
        steps: the `RecordedSteps`.
        join: (floats, other leaves) -> state, of one step.
        one_by_one: whether the step sees `vmap`, so that steps and cotangents are taken one after the other.
        has_rows: whether there are rows.
        initial: params -> the state of one sequence from which a step begins anew; None: no step does.
    """

    problem: Problem
    params: Any
    steps: Any
    join: Callable[[Any, Any], State]
    one_by_one: bool
    has_rows: bool = False
    initial: Callable[[Params], State] | None = None

    @classmethod
    def begin(
        cls, problem: Problem, params: Params, start: Callable[[Params], State], xs: PyTree, weights: Float[Array, " T"]
    ) -> tuple[tuple[Any, Any], "Trajectory"]:
        """The state in which a window of ONE sequence starts, split into (floats, other leaves), and its trajectory.

        The trajectory has no states yet: `run` adds them, or `recorded`. The arguments are those of `record`.
        """
        apart = without_resets(problem, xs)
        s, others, join = ravel_float(start(params))
        one_by_one = sees_vmap(apart.problem.step, params, join(s, others), jax.tree.map(lambda a: a[0], apart.xs))
        steps = RecordedSteps(None, None, apart.xs, weights, apart.reset)
        return (s, others), cls(apart.problem, params, steps, join, one_by_one, initial=apart.initial)

    def run(self, first: tuple[Any, Any]) -> tuple[tuple[Any, Any], "Trajectory"]:
        """Runs the steps of ONE sequence forwards, and keeps the state that enters each step, after its reset.

        Args:
            first: the state in which the window starts, split into (floats, other leaves).

        Returns:
            The state after the last step, split in the same way, and the trajectory with its states.
        """
        anew = None if self.initial is None else ravel_float(self.initial(self.params))[:2]

        def body(carry, inputs):
            x, reset = inputs
            s, others = where_rows(reset, anew, carry)
            return self.step(self.params, s, others, x)[0], (s, others)

        end, entering = jax.lax.scan(body, first, (self.steps.xs, self.steps.reset))
        return end, self.recorded(*entering)

    def recorded(self, floats: Any, others: Any) -> "Trajectory":
        """The trajectory with the states that enter its steps."""
        return self._replace(steps=self.steps._replace(floats=floats, others=others))

    def step(self, params: Params, floats: Any, others: Any, x: Any) -> tuple[tuple[Any, Any], Any]:
        """One step of a state that is split into floats and other leaves: ((floats, other leaves), loss)."""
        step = jax.vmap(self.problem.step, (None, 0, 0)) if self.has_rows else self.problem.step
        state, loss = step(params, self.join(floats, others), x)
        return (split_float if self.has_rows else ravel_float)(state)[:2], loss

    def after(self, params: Params, floats: Any, others: Any, x: Any) -> Any:
        """The floats of the state after a step."""
        return self.step(params, floats, others, x)[0][0]

    def of_losses(self, steps: RecordedSteps | None = None) -> LossDerivatives:
        """The losses and their derivatives, of all steps or of consecutive ones."""
        steps = self.steps if steps is None else steps
        # These states are constants here, so a loss that does not count can be taken at another step's state and input.
        floats, others, xs = replace_unscored((steps.floats, steps.others, steps.xs), steps.weights != 0)

        def all_losses(params, floats):
            one = lambda *step: self.step(params, *step)[1]
            return mapped(one, (0, 0, 0), len(steps.weights), self.one_by_one)(floats, others, xs)

        losses, pull = jax.vjp(all_losses, self.params, floats)
        return LossDerivatives(losses, *pull(steps.weights.astype(losses.dtype)))

    def back(self, cotangents: Any, step: RecordedSteps) -> Any:
        """The products λ J_t with the Jacobian of one step, for K cotangents λ side by side.

        Args:
            cotangents: of the floats of the state after the step, with a first axis [K].
            step: one entry of the recorded steps.
        """
        if not jax.tree.leaves(cotangents):
            return cotangents
        _, pull = jax.vjp(lambda floats: self.after(self.params, floats, step.others, step.xs), step.floats)
        num_cotangents = len(jax.tree.leaves(cotangents)[0])
        return mapped(lambda each: pull(each)[0], (0,), num_cotangents, self.one_by_one)(cotangents)

    def to_params(self, steps: RecordedSteps | None = None) -> Callable[[Any], Params]:
        """The function from cotangents of the states after the steps to Σ_t λ_t I_t: one product over all steps."""
        steps = self.steps if steps is None else steps

        def all_after(params):
            one = lambda *step: self.after(params, *step)
            all_steps = mapped(one, (0, 0, 0), len(steps.weights), self.one_by_one)
            return all_steps(steps.floats, steps.others, steps.xs)

        pull = jax.vjp(all_after, self.params)[1]
        return lambda cotangents: pull(cotangents)[0]


def record(
    problem: Problem, params: Params, start: Callable[[Params], State], xs: PyTree, weights: Float[Array, " T"]
) -> tuple[State, Trajectory]:
    """Runs a window of ONE sequence forwards, and keeps the state that enters each step, after its reset.

    Args:
        problem: its steps are run.
        params: the parameters.
        start: params -> the state in which the window starts.
        xs: what the steps read, leaves [T, ...].
        weights: the weights of the losses.

    Returns:
        The state after the last step, and the trajectory.
    """
    first, trajectory = Trajectory.begin(problem, params, start, xs, weights)
    end, trajectory = trajectory.run(first)
    return trajectory.join(*end), trajectory


def record_rows(
    problem: Problem, params: Params, state: State, xs: PyTree, weights: Float[Array, "T B"]
) -> tuple[State, Float[Array, "T B"], Trajectory]:
    """Runs a window of B rows forwards, and keeps the states that enter each step.

    Args:
        problem: its steps are run. A step that is reset stays a part of the problem: it has J = 0.
        params: the parameters.
        state: the state in which the window starts, leaves [B, ...].
        xs: what the steps read, leaves [T, B, ...].
        weights: the weights of the losses.

    Returns:
        The state after the last step, the losses float[T, B], and the trajectory.
    """
    rows = jax.vmap(problem.step, (None, 0, 0))

    def body(state, x):
        after, losses = rows(params, state, x)
        return after, (losses, *split_float(state)[:2])

    end, (losses, floats, others) = jax.lax.scan(body, state, xs)
    steps = RecordedSteps(floats, others, xs, weights)
    one_by_one = problem.sees_vmap(params, state, xs)
    return end, losses, Trajectory(problem, params, steps, split_float(state)[2], one_by_one, has_rows=True)


def scan_blocks[T](block: Callable[[T, Any], T], carry: T, steps: Any, size: int, reverse: bool = True) -> T:
    """Passes a carry through blocks of consecutive steps, so that only one block is worked on at a time.

    Args:
        block: (carry, steps of a block) -> carry.
        carry: what enters the first block that is worked on.
        steps: leaves [T, ...], such as `RecordedSteps`.
        size: the number of steps of a block; an incomplete block lies at the end of the window.
        reverse: whether the last block is the first one that is worked on.

    Returns:
        The carry after all blocks.
    """
    num_steps = len(jax.tree.leaves(steps)[0])
    whole = num_steps - num_steps % size

    def incomplete(carry):
        return block(carry, jax.tree.map(lambda a: a[whole:], steps)) if whole < num_steps else carry

    carry = incomplete(carry) if reverse else carry
    blocks = jax.tree.map(lambda a: a[:whole].reshape(whole // size, size, *a.shape[1:]), steps)
    carry, _ = jax.lax.scan(lambda carry, steps: (block(carry, steps), None), carry, blocks, reverse=reverse)
    return carry if reverse else incomplete(carry)
