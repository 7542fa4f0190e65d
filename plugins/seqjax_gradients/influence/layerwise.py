"""Real-time recurrent learning within each layer of a stack."""

from dataclasses import dataclass

from seqjax import register

from ._carrying import Carrying


@register("gradient", "layerwise")
@dataclass(frozen=True)
class Layerwise(Carrying):
    """`rtrl` for networks of several layers, which carries only what a layer's parameters do to the layer's own state.

        Σ_t dl_t/dθ_i ≈ ∂L/∂θ_i + ∂L/∂s_i,0 M_i,0,   L = Σ_t l_t
        M_i,T = ∂s_i,T/∂s_i,0 M_i,0 + ∂s_i,T/∂θ_i

    for layer i with parameters θ_i and state s_i, and a window that starts in s_i,0 and ends in s_i,T (Irie,
    Gopalakrishnan & Schmidhuber 2024, "Exploring the promise and limits of real-time recurrent learning",
    arXiv:2305.19044; Zucchet et al. 2023, "Online learning of long-range dependencies", arXiv:2305.15947). In these
    papers a window is one step.

    M_i is exactly ds_i/dθ_i. Inside of the window ∂L/∂θ_i goes through all layers. What is lost is how θ_i changed the
    states of higher layers before the window: ∂L/∂s_j,0 ds_j,0/dθ_i for j > i. The gradients of the highest layer and
    of the read-out are exact. For one layer, and for a problem that is no `Cell` or `Elementwise`, this is `rtrl`.

    For dense layers of S_i state numbers and P_i parameters M has Σ_i S_i P_i numbers per row, and for an
    `Elementwise` L numbers for each parameter that feeds one unit.
    """

    cites = ("irie2024exploring", "zucchet2023online")

    claim = "biased"

    def parts(self, known):
        """The parts of M that are carried: one or two for each layer."""
        return known.layers
