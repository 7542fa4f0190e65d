"""Real-time recurrent learning."""

from dataclasses import dataclass

from seqjax import register

from ._influence import Influence


@register("gradient", "rtrl")
@dataclass(frozen=True)
class RTRL(Influence):
    """Forward-mode gradient through the whole history, by an influence matrix M_t = ds_t/dθ.

        M_t = J_t M_{t-1} + I_t,   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ
        dl_t/dθ = ∂l_t/∂s_{t-1} M_{t-1} + ∂l_t/∂θ

    (Williams & Zipser 1989, "A learning algorithm for continually running fully recurrent neural networks"). M is
    carried from window to window, so nothing is cut. The gradient is exact at fixed parameters; after an update the
    carried M still belongs to the parameters before it. It costs S·P numbers per row and S²·P multiplications per row
    and step, for S state units and P parameters.
    """

    cites = ("williams1989learning",)

    claim = "exact"

    def advance(self, M, J, I):
        return J @ M + I
