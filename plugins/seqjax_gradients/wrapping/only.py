"""Edge weights on some variables of the state only."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from seqjax import Error, WeightedEdges, Wrapping, register
from seqjax.gradients import leaf_names, scan_rows, weigh_edge
from seqjax_gradients.reverse.truncated import Truncated


@register("gradient", "only")
@dataclass(frozen=True)
class Only(Wrapping, WeightedEdges):
    """A strategy whose edge weights apply to some variables of the state; the gradient by the others passes unchanged.

    For example, the gradient of an LSTM is cut through h, and flows through c:

        Only(Truncated(steps=1), leaves=("h",))

    A strategy that is exact or unbiased remains so: the mean of each weight is 1. The problem is unrolled by its step.
    """

    strategy: WeightedEdges = Truncated()
    """The strategy that gives the edge weights."""
    leaves: tuple[str, ...] = ()
    """The names of the variables, such as "h" or "layers.0.h"; "h" stands for all names that end in ".h". (): all."""

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.strategy, Only):
            raise Error("Only cannot be made: strategy is an Only already; name all variables in one, leaves=(...)")

    def edge_weights(self, noise, memory, num_steps):
        """The edge weights of the strategy, for the chosen variables."""
        return self.strategy.edge_weights(noise, memory, num_steps)

    def estimate(self, problem, params, start, memory, batch, noise):
        problem = _weighing(problem, _chosen(self.leaves, start(params)))
        return super().estimate(problem, params, start, memory, batch, noise)

    @property
    def scan(self):
        """Runs a call of `seqjax.scan` as the strategy does, on the chosen variables."""
        if self.strategy.scan is None:
            return None
        return lambda call, *drawn: self.strategy.scan(call._replace(chosen=_chosen(self.leaves, call.init)), *drawn)


def _weighing(problem, chosen):
    """The problem whose edge weights multiply the tangents of some leaves of the state, `chosen` by their order."""

    def step(params, state, inputs):
        x, weight = inputs
        return problem.step_with_outputs(params, weigh_edge(state, weight, chosen), x)

    def run(params, state, xs, edge_weights=None, scored=None):
        if edge_weights is None or not any(chosen):
            return problem.unroll_with_outputs(params, state, xs, None, scored)
        num_rows = len(jax.tree.leaves(state)[0])
        weights_TB = jnp.broadcast_to(edge_weights.reshape(len(edge_weights), -1), (len(edge_weights), num_rows))
        return scan_rows(step, params, state, (xs, weights_TB), None, scored)

    return problem.changed(run=run, weighs_whole_state=False)


def _chosen(names, state):
    """For each leaf of the state, whether its edges are weighted."""
    known = [name for name, _ in leaf_names(state, "state")]
    for name in names:
        if not any(_matches(name, leaf) for leaf in known):
            raise Error(f"only: the state has no variable {name!r}; it has {', '.join(known)}")
    return tuple(not names or any(_matches(name, leaf) for name in names) for leaf in known)


def _matches(name, leaf):
    return leaf == name or leaf.endswith(f".{name}")
