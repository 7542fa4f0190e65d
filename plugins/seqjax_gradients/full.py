"""Backpropagation through time in full."""

from dataclasses import dataclass

from seqjax import GatedGradient, register


@register("gradient", "full")
@dataclass(frozen=True)
class Full(GatedGradient):
    """Full backpropagation through the window: every gate is 1.

    With h_t = f(x_t, h_{t-1}, w), the derivative of the state follows the recurrence

        dh_t/dw = ∂f/∂w + ∂f/∂h dh_{t-1}/dw

    (Werbos 1990, "Backpropagation through time: what it does and how to do it").
    """

    claim = "exact"

    def gates(self, noise, memory, num_steps):
        """None: all ones."""
        return None, memory
