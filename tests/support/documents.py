"""A scan over the documents of a stream in one piece, to compare with what is computed window by window."""

import jax
import jax.numpy as jnp
import numpy as np


def scan_documents(step, state, xs, bounds):
    """What `step` returns beside its state at each time step, as numpy; a document starts from `state`."""
    reset = np.isin(np.arange(bounds[-1]), bounds[:-1])

    def from_start(carried, inputs):
        is_first, x = inputs
        return step(jax.tree.map(lambda start, old: jnp.where(is_first, start, old), state, carried), x)

    return np.asarray(jax.jit(lambda xs: jax.lax.scan(from_start, state, xs))((reset, xs))[1])


def is_scored(stream, warmup):
    """Whether each target counts: those after the warm-up of their document that are not masked, bool[n]."""
    steps = np.arange(stream.bounds[-1])
    first = np.asarray(stream.bounds)[np.searchsorted(stream.bounds, steps, "right") - 1]
    return (steps - first >= warmup) & (True if stream.mask is None else stream.mask)
