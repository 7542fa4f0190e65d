"""Initial weights of recurrent networks."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scheme = Literal["normal", "uniform", "glorot", "orthogonal"]


def init_weight(
    scheme: Scheme, key: jax.Array, shape: tuple[int, int], hidden: int, blocks: int = 1, recurrent: bool = False
) -> Float[Array, "fan_in width"]:
    """A weight matrix of `blocks` blocks side by side, which are drawn independently.

    Args:
        scheme: `normal`: N(0, 0.01²). `uniform`: U(±1/√hidden). `glorot`: U(±√(6/(fan_in + fan_out))) (Glorot & Bengio
            2010). `orthogonal`: an orthogonal matrix (Saxe, McClelland & Ganguli 2014) where `recurrent`, else
            N(0, 1/fan_in).
        key: the randomness.
        shape: (fan_in, fan_out) of one block.
        hidden: the number of hidden units.
        blocks: the number of blocks.
        recurrent: whether the matrix is W_hh, which leads from the hidden units of a step to the hidden units of the
            next step.

    Returns:
        float[fan_in, blocks fan_out].
    """
    fan_in, fan_out = shape
    full = (blocks, fan_in, fan_out)
    if scheme == "normal":
        weights = 0.01 * jax.random.normal(key, full)
    elif scheme == "uniform":
        weights = _uniform(key, full, hidden**-0.5)
    elif scheme == "glorot":
        weights = _uniform(key, full, (6 / (fan_in + fan_out)) ** 0.5)
    elif recurrent:
        weights = jax.random.orthogonal(key, fan_in, (blocks,))
    else:
        weights = fan_in**-0.5 * jax.random.normal(key, full)
    return jnp.moveaxis(weights, 0, 1).reshape(fan_in, blocks * fan_out)


def _uniform(key, shape, limit):
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
