"""What every strategy is compared with: a recurrence that is not trained, and controls whose verdict is known."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import seqjax as sj
from seqjax.gradients import Full, Immediate
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
        return estimate._replace(grads=_with_recurrence(0.0, estimate.grads, problem, params, start, batch))


@dataclass(frozen=True)
class Twin(Full):
    """`full` again, with a gradient whose entries differ by one unit in the last place: it must tie with `full`.

    How far its scores are from those of `full` is the resolution of the comparison.
    """

    def estimate(self, problem, params, start, memory, batch, noise):
        estimate = super().estimate(problem, params, start, memory, batch, noise)
        return estimate._replace(grads=jax.tree.map(_perturbed, estimate.grads))


@dataclass(frozen=True)
class WrongSign(Full):
    """`full` with the negative gradient of the parameters of the recurrence: it must be worse than `full`."""

    claim = "biased"

    def estimate(self, problem, params, start, memory, batch, noise):
        estimate = super().estimate(problem, params, start, memory, batch, noise)
        return estimate._replace(grads=_with_recurrence(-1.0, estimate.grads, problem, params, start, batch))


def _with_recurrence(factor, grads, problem, params, start, batch):
    """A gradient, times a factor for the parameters on which the next state depends."""
    state, x = start(params), jax.tree.map(lambda a: a[0], batch.xs)

    def next_state(params):
        return jax.vmap(problem.step, (None, 0, 0))(params, state, x)[0]

    leaves, tree = jax.tree.flatten(grads)
    of_recurrence = depends_on(next_state, params)
    return tree.unflatten([factor * a if of else a for a, of in zip(leaves, of_recurrence, strict=True)])


def _perturbed(a: jax.Array) -> jax.Array:
    """An array whose entries are larger and smaller in turn, by one unit in the last place."""
    larger = (jnp.arange(a.size).reshape(a.shape) % 2).astype(bool)
    return jnp.nextafter(a, jnp.where(larger, jnp.inf, -jnp.inf).astype(a.dtype))
