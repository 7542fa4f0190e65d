"""Edge weights on some variables of the state only."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from seqjax import Error, WeightedEdges, register
from seqjax.gradients import UnrolledProblem, leaf_names, scan_rows, weigh_edge

from ._wrapping import Wrapping
from .truncated import Truncated


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

    def edge_weights(self, noise, memory, num_steps):
        """The edge weights of the strategy, for the chosen variables."""
        return self.strategy.edge_weights(noise, memory, num_steps)

    def estimate(self, problem, params, start, memory, batch, noise):
        chosen = _chosen(self.leaves, start(params))
        return self.strategy.estimate(_OnlyProblem(problem, chosen), params, start, memory, batch, noise)

    @property
    def scans(self):
        """Whether `seqjax.scan` takes the strategy."""
        return self.strategy.scans

    def scan(self, call, noise, memory):
        """Runs a call of `seqjax.scan` as the strategy does, on the chosen variables."""
        return self.strategy.scan(call._replace(chosen=_chosen(self.leaves, call.init)), noise, memory)


class _OnlyProblem(UnrolledProblem):
    """A problem whose edge weights multiply the tangents of some leaves of the state, `chosen` by their order."""

    weighs_whole_state = False
    has_own_unroll = False

    def __init__(self, problem, chosen):
        super().__init__(problem)
        self.chosen = chosen

    def unroll_with_outputs(self, params, state, xs, edge_weights=None, scored=None):
        if edge_weights is None or not any(self.chosen):
            return self.problem.unroll_with_outputs(params, state, xs, None, scored)

        def step(params, state, inputs):
            x, weight = inputs
            leaves, treedef = jax.tree.flatten(state)
            leaves = [weigh_edge(a, weight) if use else a for a, use in zip(leaves, self.chosen, strict=True)]
            return self.problem.step_with_outputs(params, jax.tree.unflatten(treedef, leaves), x)

        num_rows = len(jax.tree.leaves(state)[0])
        weights_TB = jnp.broadcast_to(edge_weights.reshape(len(edge_weights), -1), (len(edge_weights), num_rows))
        return scan_rows(step, params, state, (xs, weights_TB), None, scored)


def _chosen(names, state):
    """For each leaf of the state, whether its edges are weighted."""
    known = [name for name, _ in leaf_names(state, "state")]
    for name in names:
        if not any(_matches(name, leaf) for leaf in known):
            raise Error(f"only: the state has no variable {name!r}; it has {', '.join(known)}")
    return tuple(not names or any(_matches(name, leaf) for name in names) for leaf in known)


def _matches(name, leaf):
    return leaf == name or leaf.endswith(f".{name}")
