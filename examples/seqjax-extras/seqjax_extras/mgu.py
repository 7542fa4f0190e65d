"""The model mgu."""

from dataclasses import dataclass

import jax.numpy as jnp

import seqjax
from seqjax.models import sigmoid


@seqjax.register("model", "mgu")
@dataclass(frozen=True)
class MGU(seqjax.Cell):
    """Minimal gated unit (Zhou et al. 2016): f = σ(u_f + v_f), h_t = (1 - f) h_{t-1} + f tanh(u_n + f v_n)."""

    bibtex = """
        @article{zhou2016minimal,
          author = {Zhou, Guo-Bing and Wu, Jianxin and Zhang, Chen-Lin and Zhou, Zhi-Hua},
          title = {Minimal gated unit for recurrent neural networks},
          journal = {International Journal of Automation and Computing},
          volume = {13},
          number = {3},
          pages = {226--234},
          year = {2016},
          doi = {10.1007/s11633-016-1006-2}
        }
    """

    blocks = 2

    def cell(self, u, v, state):
        """One step of one layer."""
        (u_f, u_n), (v_f, v_n) = jnp.split(u, 2, -1), jnp.split(v, 2, -1)
        f = sigmoid(u_f + v_f)
        return self.State((1 - f) * state.h + f * jnp.tanh(u_n + f * v_n))
