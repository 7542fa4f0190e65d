"""All outcomes of signs drawn at random."""

import math

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from seqjax import Memory

MOST = 20
"""Of more signs than this the outcomes are too many to list."""


def size_in_shape(params):
    """Memory without numbers, whose `shared` has as many rows as there are parameters: what `draw` has to know."""
    return Memory(shared=jnp.zeros((ravel_pytree(params)[0].size, 0)))


def sign_patterns(*shape):
    """All patterns bool[M, *shape], and their equal probabilities.

    Raises:
        NotImplementedError: they are too many to list.
    """
    num_signs = math.prod(shape)
    if num_signs > MOST:
        raise NotImplementedError(f"2^{num_signs} patterns of signs are too many to list; at most 2^{MOST}")
    bits = np.arange(2**num_signs)[:, None] >> np.arange(num_signs) & 1
    patterns = bits.astype(bool).reshape(len(bits), *shape)
    return patterns, jnp.full(len(patterns), 1 / len(patterns))
