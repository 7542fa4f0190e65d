"""`RandomCuts`: unbiased random truncation from a hazard, the probability that an edge is cut."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from seqjax.gradient import GatedGradient, Memory


class RandomCuts(GatedGradient):
    """Cuts each edge between steps at random; a surviving edge weighs 1 / (1 - hazard), so the mean is exact.

    The author writes `hazard`; gates, reweighting, ages and outcomes follow from it. The age of a row persists from
    window to window (Tallec & Ollivier 2017, "Unbiasing truncated backpropagation through time", arXiv:1705.08209).
    """

    claim = "unbiased"

    def hazard(self, age: Int[Array, ""], shared: Any) -> Any:
        """Probability that this edge is cut; `age` int32: edges kept since the last cut or start, first 0.

        An edge of hazard 1 is always cut: the gradient that would cross it is lost, so the strategy is biased.
        """
        raise NotImplementedError

    def init(self, problem, params, state):
        return Memory(rows=jnp.zeros((), jnp.int32))

    def draw(self, key, memory, num_steps):
        """Which edges are cut, bool[T]."""
        u_T = jax.random.uniform(key, (num_steps,))
        return self._walk(memory, u_T, lambda u, hazard: u < hazard)[0]

    def outcomes(self, memory, num_steps):
        cuts_MT = bit_patterns(num_steps)

        def probability(cuts_T):
            _, hazard_T, _ = self._walk(memory, cuts_T, lambda cut, hazard: cut)
            return jnp.prod(jnp.where(cuts_T, hazard_T, 1 - hazard_T))

        return cuts_MT, jax.vmap(probability)(cuts_MT)

    def gates(self, noise, memory, num_steps):
        cuts_T, hazard_T, age = self._walk(memory, noise, lambda cut, hazard: cut)
        kept_T = ~cuts_T & (hazard_T < 1)  # finite for outcomes of probability 0 too
        return jnp.where(kept_T, 1 / jnp.where(kept_T, 1 - hazard_T, 1), 0), memory._replace(rows=age)

    def _walk(self, memory, source_T, is_cut):
        """Follows the age along T edges: (cuts bool[T], hazards float[T], age after the last edge)."""

        def edge(age, source):
            hazard = jnp.asarray(self.hazard(age, memory.shared), float)
            cut = is_cut(source, hazard)
            return jnp.where(cut, 0, age + 1), (cut, hazard)

        age, (cuts_T, hazard_T) = jax.lax.scan(edge, memory.rows, source_T)
        return cuts_T, hazard_T, age


def bit_patterns(n: int) -> Bool[np.ndarray, "M n"]:
    """All 2^n rows of n booleans, the outcomes of n independent cuts."""
    return np.array(list(itertools.product([False, True], repeat=n)), bool).reshape(-1, n)
