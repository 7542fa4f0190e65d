"""`Wrapping`: the base of strategies that are made from another one."""

from operator import attrgetter
from typing import Any

from seqjax.gradients.contract.gradient import Gradient


class Wrapping(Gradient):
    """A strategy around the one in its field `strategy`. It passes on all that a subclass does not define.

    These are the claim and what it is of, the arguments and the precision, the memory, the draws and their outcomes,
    the checks of numbers, the metrics, and the estimate. `scan` is None: a subclass whose change has a meaning for a
    scan without losses defines it. A subclass that carries something itself writes `init` and `inner`.

    >>> from dataclasses import dataclass
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> from seqjax.gradients import Truncated
    >>> @dataclass(frozen=True)
    ... class Halved(sj.Wrapping):
    ...     strategy: sj.Gradient = Truncated()
    ...     claim = "biased"
    ...     def estimate(self, *args):
    ...         estimate = super().estimate(*args)
    ...         return estimate._replace(grads=jax.tree.map(lambda a: a / 2, estimate.grads))
    >>> def step(w, s, x):
    ...     s = s + w * x
    ...     return s, s
    >>> scan = jnp.array(1.0), jnp.array(0.0), jnp.ones(4)
    >>> loss, grads = sj.value_and_grad(step, Halved(Truncated(steps=2)))(*scan, weights="last")
    >>> float(grads)  # half of the last two steps
    1.0
    """

    strategy: Any

    claim = property(attrgetter("strategy.claim"))
    of = property(attrgetter("strategy.of"))
    argnums = property(attrgetter("strategy.argnums"))
    learns_start = property(attrgetter("strategy.learns_start"))
    drops_losses = property(attrgetter("strategy.drops_losses"))
    rounds = property(attrgetter("strategy.rounds"))
    for_one_step = property(attrgetter("strategy.for_one_step"))
    by_sequence = property(attrgetter("strategy.by_sequence"))
    metric_names = property(attrgetter("strategy.metric_names"))

    def inner(self, memory):
        """The part of the memory that belongs to the strategy."""
        return memory

    def init(self, problem, params, state, x=None):
        """The memory of the strategy."""
        return self.strategy.init(problem, params, state, x)

    @property
    def draw(self):
        """Draws the random numbers of the strategy; None: it is not random."""
        if self.strategy.draw is None:
            return None
        return lambda key, problem, params, memory, num_steps: self.strategy.draw(
            key, problem, params, self.inner(memory), num_steps
        )

    def outcomes(self, problem, params, memory, num_steps):
        """All values that the strategy can draw, and their probabilities."""
        return self.strategy.outcomes(problem, params, self.inner(memory), num_steps)

    def estimate(self, problem, params, start, memory, batch, noise):
        """The estimate of the strategy."""
        return self.strategy.estimate(problem, params, start, self.inner(memory), batch, noise)

    def check_values(self, memory, num_steps):
        """Checks the numbers of the strategy."""
        self.strategy.check_values(self.inner(memory), num_steps)

    def metrics(self, memory):
        """The metrics of the strategy."""
        return self.strategy.metrics(self.inner(memory))
