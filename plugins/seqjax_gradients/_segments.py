"""Regular cuts."""

import jax.numpy as jnp


def segment_gates(num_steps, steps):
    """Gates that cut a window into segments of `steps`: 0 at its positive multiples, else 1; `steps` may be traced."""
    t = jnp.arange(num_steps)
    return jnp.where((t % steps == 0) & (t > 0), 0.0, 1.0)
