"""Real-time recurrent learning."""

from dataclasses import dataclass

from seqjax import register

from ._carrying import Carrying


@register("gradient", "rtrl")
@dataclass(frozen=True)
class RTRL(Carrying):
    """Forward-mode gradient through the whole history, by an influence matrix M = ds/dθ.

    Step by step it is (Williams & Zipser 1989, "A learning algorithm for continually running fully recurrent neural
    networks")

        M_t = J_t M_{t-1} + I_t,   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ
        dl_t/dθ = ∂l_t/∂s_{t-1} M_{t-1} + ∂l_t/∂θ

    While the parameters stay the same, the same gradient of a window that starts in s_0 and ends in s_T is

        Σ_t dl_t/dθ = ∂L/∂θ + ∂L/∂s_0 M_0,   L = Σ_t l_t
        M_T = ∂s_T/∂s_0 M_0 + ∂s_T/∂θ

    (Schmidhuber 1992, "A fixed size storage O(n³) time complexity learning algorithm for fully recurrent continually
    running networks"): one reverse pass of the losses, and one of s_T for each of its numbers. M is carried from window
    to window, so nothing is cut. The gradient is exact at fixed parameters; after an update the carried M still belongs
    to the parameters before it.

    For S state numbers and P parameters M has S·P numbers per row, and a window takes S reverse passes per row. In an
    `Elementwise` of one layer, a parameter that feeds one unit needs L numbers, one for each number of a unit, and L
    passes; these are W_xh, b_h and the cell's own parameters. What feeds all units (an embedding, the norm and W_in of
    a residual layer, W_xh of a selective `ssm`) has S numbers for each of its entries, and S passes.
    """

    cites = ("williams1989learning", "schmidhuber1992fixed")

    claim = "exact"

    def parts(self, known):
        """Parts that together are the whole matrix."""
        return known.exact
