"""The gradient taken apart by how many steps back it travels: cotangents of the state, one for each lag.

For a step (s_t, l_t) = f(θ, s_{t-1}, x_t) let J_t = ∂s_t/∂s_{t-1}, I_t = ∂s_t/∂θ, q_t = w_t ∂l_t/∂s_{t-1}. What the
loss of step t + k owes to the state s_t is λ^(k)_t, a cotangent with

    λ^(1)_{t-1} = q_t,   λ^(k+1)_{t-1} = λ^(k)_t J_t

and the part of the gradient that travels k steps back is G_0 = Σ_t w_t ∂l_t/∂θ, with s_{t-1} fixed, and
G_k = Σ_t λ^(k)_t I_t.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.gradients.base import weighted_sum
from seqjax.gradients.floats import split_float
from seqjax.gradients.problem import Params, Problem, State


class Steps(NamedTuple):
    """Steps side by side, leaves [T, B, ...].

    Args:
        floats: the float leaves of the states that enter them.
        others: the other leaves of these states.
        xs: what they read.
        weights: float[T, B], what each loss counts.
    """

    floats: list
    others: list
    xs: Any
    weights: Any


def forward(
    problem: Problem, params: Params, state: State, xs: PyTree, weights: Float[Array, "T B"]
) -> tuple[State, Float[Array, "T B"], Steps]:
    """The state after the last step, the losses, and the steps with what enters them."""
    rows = jax.vmap(problem.step, (None, 0, 0))

    def body(state, x):
        after, losses = rows(params, state, x)
        return after, (losses, *split_float(state)[:2])

    state, (losses, floats, others) = jax.lax.scan(body, state, xs)
    return state, losses, Steps(floats, others, xs, weights)


class Linear(NamedTuple):
    """A problem's step at given parameters, differentiated for B rows.

    Args:
        problem: whose step.
        params: where.
        join: float leaves and others -> state, of `split_float`.
    """

    problem: Problem
    params: Any
    join: Any

    @classmethod
    def of(cls, problem: Problem, params: Params, state: State) -> "Linear":
        """At these parameters, for states of this structure."""
        return cls(problem, params, split_float(state)[2])

    def losses(self, steps: Steps) -> tuple[Params, list]:
        """G_0, and q_t for each step, leaves [T, B, ...]."""

        def weighted(params, floats, others, x, weights):
            return weighted_sum(weights, self._rows(params, floats, others, x)[1])

        def total(params, floats):
            over_time = jax.vmap(weighted, (None, 0, 0, 0, 0))
            return over_time(params, floats, steps.others, steps.xs, steps.weights).sum()

        return jax.grad(total, (0, 1))(self.params, steps.floats)

    def back(self, cotangents: list, step: Steps) -> list:
        """λ J_t for K cotangents, leaves [K, B, ...], of one step."""
        if not cotangents:
            return []
        _, pull = jax.vjp(lambda floats: self._next(self.params, floats, step.others, step.xs), step.floats)
        return jax.vmap(lambda each: pull(each)[0])(cotangents)

    def to_params(self, steps: Steps) -> Any:
        """The function Σ_t λ_t I_t of cotangents with leaves [T, B, ...]: one product over all the steps."""

        def over_time(params):
            return jax.vmap(self._next, (None, 0, 0, 0))(params, steps.floats, steps.others, steps.xs)

        pull = jax.vjp(over_time, self.params)[1]
        return lambda cotangents: pull(cotangents)[0]

    def _rows(self, params, floats, others, x):
        return jax.vmap(self.problem.step, (None, 0, 0))(params, self.join(floats, others), x)

    def _next(self, params, floats, others, x):
        return split_float(self._rows(params, floats, others, x)[0])[0]


def shift(cotangents: list, losses: list) -> list:
    """λ^(1), ..., λ^(K) of the step before, the last of which gathers all that is older."""
    return jax.tree.map(lambda a, q: jnp.concatenate([q[None], a[:-1]]).at[-1].add(a[-1]), cotangents, losses)
