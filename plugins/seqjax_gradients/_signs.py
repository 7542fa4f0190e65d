"""All outcomes of signs drawn at random."""

import math

import jax.numpy as jnp
import numpy as np

MOST = 20
"""Of more signs than this the outcomes are too many to list."""


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
