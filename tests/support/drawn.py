"""Parameters that numpy draws, for which JAX compiles nothing."""

import jax
import numpy as np


def drawn_params(model, spec, scale=0.5, seed=0):
    """Parameters of a model, whose shapes and dtypes are those of its initial ones, from a normal distribution."""
    rng = np.random.default_rng(seed)
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), spec))
    return jax.tree.map(lambda a: (scale * rng.normal(size=a.shape)).astype(a.dtype), like)
