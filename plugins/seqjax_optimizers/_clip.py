"""What the optimizers here share."""

from collections.abc import Callable

import optax


def clipped(make: Callable, clip_norm: float | None, **fields: float) -> optax.GradientTransformation:
    """`make(**fields)` behind a clip of the global norm; the fields can be read from the optimizer's state."""
    tx = optax.inject_hyperparams(make)(**fields)
    return tx if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), tx)
