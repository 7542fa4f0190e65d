"""The common base of `only`, `certified` and `dodge`: a strategy that is made from another one."""

from typing import Any

from seqjax import Gradient


class Wrapping(Gradient):
    """Delegates all that a subclass does not define to the strategy in its field `strategy`, which is of the window."""

    strategy: Any
    of = "window"

    @property
    def claim(self):  # type: ignore[override]
        """What the strategy claims."""
        return self.strategy.claim

    @property
    def draws(self):
        """Whether the strategy is random."""
        return self.strategy.draws

    @property
    def rounds(self):  # type: ignore[override]
        """Whether the strategy may be given steps in bfloat16."""
        return self.strategy.rounds

    @property
    def for_one_step(self):
        """Whether the strategy is meant for windows of one step."""
        return self.strategy.for_one_step

    @property
    def by_sequence(self):  # type: ignore[override]
        """Whether the strategy is written for one sequence."""
        return self.strategy.by_sequence

    @property
    def metric_names(self):  # type: ignore[override]
        """The names of the strategy's metrics."""
        return self.strategy.metric_names

    def inner(self, memory):
        """The part of the memory that belongs to the strategy."""
        return memory

    def init(self, problem, params, state):
        """The memory of the strategy."""
        return self.strategy.init(problem, params, state)

    def draw(self, key, problem, params, memory, num_steps):
        """The random numbers of the strategy."""
        return self.strategy.draw(key, problem, params, self.inner(memory), num_steps)

    def outcomes(self, problem, params, memory, num_steps):
        """All values that the strategy can draw, and their probabilities."""
        return self.strategy.outcomes(problem, params, self.inner(memory), num_steps)

    def check_values(self, memory, num_steps):
        """Checks the numbers of the strategy."""
        self.strategy.check_values(self.inner(memory), num_steps)

    def metrics(self, memory):
        """The metrics of the strategy."""
        return self.strategy.metrics(self.inner(memory))
