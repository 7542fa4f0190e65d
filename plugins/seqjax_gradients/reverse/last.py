"""Backpropagation through the last steps."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Gradient, register
from seqjax.gradients import window_gradient


@register("gradient", "last")
@dataclass(frozen=True)
class Last(Gradient):
    """Differentiates the last `steps` steps; everything before them is a constant.

    The state before the last K steps has no gradient, and neither have the losses and outputs of earlier steps: their
    cotangents are dropped. At a fixed point the gradient has the first K terms of the Neumann series, and is called the
    phantom gradient (Geng et al. 2021, "On training implicit models", arXiv:2111.05177). In a loop over depth it is the
    gradient of deep supervision through the last iterations (Jolicoeur-Martineau 2025, "Less is more: recursive
    reasoning with tiny networks", arXiv:2510.04871). The reverse pass keeps K steps, however many there are.
    """

    cites = ("geng2021training", "jolicoeur2025less")

    steps: Annotated[int, Interval(ge=1)] = 1
    """K, the number of steps that are differentiated."""

    claim = "biased"
    of = "window"
    argnums = (0, 1, 2)
    drops_losses = True

    @property
    def for_one_step(self):
        """Whether one step is differentiated."""
        return self.steps == 1

    def estimate(self, problem, params, start, memory, batch, noise):
        early = len(batch.weights) - self.steps

        def run(params, state, xs, edge_weights=None, scored=None):
            first_xs, first_scored = jax.tree.map(lambda a: a[:early], (xs, scored))
            last_xs, last_scored = jax.tree.map(lambda a: a[early:], (xs, scored))
            fixed = jax.lax.stop_gradient((params, state, first_xs))
            state, *first = problem.unroll_with_outputs(*fixed, None, first_scored)
            state, *last = problem.unroll_with_outputs(params, state, last_xs, None, last_scored)
            return state, *jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)

        problem_of_last = problem.changed(run=run) if early > 0 else problem
        return window_gradient(problem_of_last, params, start, batch)._replace(memory=memory)

    def scan(self, call, noise, memory):
        """Runs the earlier steps as constants."""
        return call.last(self.steps)

    def loop(self, call):
        """Follows the loop with the last K states at hand, and executes the steps from the oldest one again."""
        return call.last(self.steps)
