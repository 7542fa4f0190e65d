from dataclasses import dataclass

import seqjax


@seqjax.register("gradient", "echo")
@dataclass(frozen=True)
class Echo(seqjax.WeightedEdges):
    """Another echo."""

    claim = "exact"

    def edge_weights(self, noise, memory, num_steps):
        return None, memory


@seqjax.register("gradient", "full")
@dataclass(frozen=True)
class Full(Echo):
    """Another full."""
