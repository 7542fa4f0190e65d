"""Backpropagation through time, truncated k2 steps back every k1 steps."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from seqjax import Error, Gradient, register
from seqjax.gradients import segment_gradient

NumSteps = Annotated[int, Interval(ge=1)]


@register("gradient", "k1k2")
@dataclass(frozen=True)
class K1K2(Gradient):
    """Every k1 steps, differentiates the losses of the last k1 steps, k2 steps back.

    The losses of steps j k1 <= t < (j + 1) k1 reach back to step a_j = (j + 1) k1 - k2, or to the window's start,

        dh_t/dw = ∂f/∂w + ξ_t ∂f/∂h dh_{t-1}/dw,   ξ_t = 0 if t = a_j > 0, else 1

    so a loss keeps between k2 - k1 + 1 and k2 steps. This is the BPTT(h; h') of Williams & Peng (1990, "An efficient
    gradient-based algorithm for on-line training of recurrent network trajectories") with h = k2, h' = k1. Steps that
    a window lacks at its end count as unscored. k1 = k2 is `truncated`. k1 = 1 is `sliding`, except that the first k2
    losses, and not the first k2 - 1, reach a learned initial state.

    The blocks of k1 losses are differentiated one after the other, so that the residuals of k2 steps are kept, and each
    step is computed k2/k1 times.
    """

    cites = ("williams1990efficient",)

    k1: NumSteps = 10
    """The number of steps from one differentiation to the next."""
    k2: NumSteps = 20
    """The number of steps that each differentiation goes back, at least k1."""

    claim = "biased"
    of = "window"
    argnums = (0, 1, 2)

    def __post_init__(self):
        super().__post_init__()
        if self.k2 < self.k1:
            raise Error(
                f"K1K2 cannot be made: k2 = {self.k2} < k1 = {self.k1}, so that no step's loss would reach the steps "
                "between; make k2 at least k1"
            )

    def estimate(self, problem, params, start, memory, batch, noise):
        return segment_gradient(problem, params, start, batch, self.k1, self.k2 - self.k1)._replace(memory=memory)

    def scan(self, call, noise, memory):
        """Segment after segment, with a lead of k2 - k1 steps."""
        return call.in_segments(self.k1, self.k2 - self.k1)
