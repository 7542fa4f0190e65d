"""The baseline with which every strategy is compared: a recurrence that keeps its initial parameters."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import seqjax as sj
from seqjax.gradients import Immediate
from seqjax.gradients.steps.dependence import depends_on


@dataclass(frozen=True)
class Frozen(sj.Gradient):
    """The gradient of the read-out alone. Parameters on which the next state depends get the gradient zero.

    The gradient of the read-out is exact, since no state depends on these parameters.
    """

    claim = "biased"
    of = "window"

    def estimate(self, problem, params, start, memory, batch, noise):
        estimate = Immediate().estimate(problem, params, start, memory, batch, noise)
        state, x = start(params), jax.tree.map(lambda a: a[0], batch.xs)

        def next_state(params):
            return jax.vmap(problem.step, (None, 0, 0))(params, state, x)[0]

        grads, tree = jax.tree.flatten(estimate.grads)
        frozen = depends_on(next_state, params)
        kept = [jnp.zeros_like(a) if is_frozen else a for a, is_frozen in zip(grads, frozen, strict=True)]
        return estimate._replace(grads=tree.unflatten(kept))
