"""Eligibility traces, and the step size of agents that learn from streams, as optax transformations.

Both take gradients of outputs, such as of a value or of the logarithm of a policy, and the TD error δ of the step,
which is known only after it:

    z ← decay z + g,   θ ← θ + step size · δ z
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.errors import Error, check_all, check_whole, dtype_shape


def eligibility(decay: float, rows: int | None = None) -> optax.GradientTransformationExtraArgs:
    """An eligibility trace z of the gradients g, times the TD error δ (Sutton 1988).

        z ← decay z + g,   update = δ z

    For TD(λ) with the discount γ, decay = γ λ. Its `update(grads, state, params, *, delta, reset=False)` takes δ, and
    whether a sequence starts with this step: then the old trace is dropped. The updates have the sign of the gradients,
    so that they are scaled by a positive step size.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> import seqjax as sj
    >>> optimizer = optax.chain(sj.eligibility(0.9), optax.scale(0.01))
    >>> params = jnp.zeros(())
    >>> state = optimizer.init(params)
    >>> for _ in range(2):
    ...     updates, state = optimizer.update(jnp.ones(()), state, params, delta=0.5)
    >>> round(float(updates), 5)  # .01 · .5 · (.9 + 1)
    0.0095

    Args:
        decay: from 0 to 1.
        rows: B: it takes gradients by row, leaves [B, ...], keeps a trace for each row, takes δ and reset as [B], and
            returns the mean of δ z over the rows. None: one trace.

    Raises:
        Error: `decay` is not from 0 to 1; `rows` is no whole number from 1 on.
    """
    check_all("eligibility", _from_0_to_1(decay))
    if rows is not None:
        check_whole(rows=(rows, 1))
    leading = () if rows is None else (rows,)

    def init(params):
        return jax.tree.map(lambda a: jnp.zeros((*leading, *a.shape), a.dtype), params)

    def update(grads, z, params=None, *, delta=None, reset=False, **extra):
        delta = _given("eligibility", delta, leading)
        z = _decayed("eligibility", z, grads, decay, jnp.broadcast_to(_flag("eligibility", reset, leading), leading))
        updates = jax.tree.map(lambda a: _beside(delta, a).astype(a.dtype) * a, z)
        return updates if rows is None else jax.tree.map(lambda a: a.mean(0), updates), z

    return optax.GradientTransformationExtraArgs(init, update)


def obgd(learning_rate: float, decay: float, kappa: float = 2.0) -> optax.GradientTransformationExtraArgs:
    """A step along δ z that cannot overshoot, with an eligibility trace z of its own (Elsayed et al. 2024).

        z ← decay z + g
        M = α κ max(|δ|, 1) ‖z‖₁
        update = α / max(M, 1) · δ z

    Elsayed, Vasan & Mahmood, "Streaming deep reinforcement learning finally works", arXiv:2410.14606: ObGD. It takes
    `delta` and `reset` as `eligibility` does, and its updates are added to the parameters as they are. It is for one
    stream; with rows there is `eligibility(decay, rows=B)`.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> optimizer = sj.obgd(1.0, 0.9)
    >>> params = jnp.zeros(())
    >>> state = optimizer.init(params)
    >>> updates, state = optimizer.update(jnp.array(3.0), state, params, delta=0.5)
    >>> float(updates)  # .5 · 3 / (2 · 3), since the whole step would overshoot
    0.25

    Args:
        learning_rate: α, positive.
        decay: from 0 to 1; γ λ for TD(λ).
        kappa: κ, positive; the larger, the smaller the steps.

    Raises:
        Error: a number is out of its range.
    """
    check_all("obgd", _from_0_to_1(decay) | _positive(learning_rate=learning_rate, kappa=kappa))

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(grads, z, params=None, *, delta=None, reset=False, **extra):
        delta = _given("obgd", delta, ())
        z = _decayed("obgd", z, grads, decay, _flag("obgd", reset, ()))
        # In float32 at least: the sum of many numbers, and a small step, leave the range of float16.
        alpha, k, delta = (jnp.asarray(a, float) for a in (learning_rate, kappa, delta))
        size = sum(jnp.sum(jnp.abs(a), dtype=float) for a in jax.tree.leaves(z))
        step = alpha * delta / jnp.maximum(alpha * k * jnp.maximum(jnp.abs(delta), 1) * size, 1)
        return jax.tree.map(lambda a: (step * a.astype(step.dtype)).astype(a.dtype), z), z

    return optax.GradientTransformationExtraArgs(init, update)


def _from_0_to_1(decay: Any) -> dict[str, bool]:
    return {f"decay = {decay!r:.80} must be from 0 to 1, such as γ λ": _is_number(decay, lambda a: 0 <= a <= 1)}


def _positive(**values: Any) -> dict[str, bool]:
    text = "must be positive; a schedule enters by optax.inject_hyperparams(seqjax.obgd)(learning_rate=schedule, ...)"
    return {f"{name} = {value!r:.80} {text}": _is_number(value, lambda a: a > 0) for name, value in values.items()}


def _is_number(value: Any, in_range: Callable[[Any], Any]) -> bool:
    """Whether a value is a number in a range. Nothing is known of a traced one, as of `optax.inject_hyperparams`."""
    if isinstance(value, jax.core.Tracer):
        return True
    return np.ndim(value) == 0 and isinstance(value, int | float | np.number | jax.Array) and bool(in_range(value))


def _given(caller: str, delta: Any, shape: tuple[int, ...]) -> jax.Array:
    """δ as an array, checked."""
    if delta is None:
        raise Error(
            f"{caller} multiplies its trace by the TD error of the step: pass it, such as "
            "optimizer.update(grads, state, params, delta=delta) or learner.apply(state, grads, delta=delta)"
        )
    delta = jnp.asarray(delta)
    if delta.shape != shape:
        wanted = f"float{list(shape)}"
        rows = "; for a δ of each row there is eligibility(decay, rows=B)" if delta.ndim > len(shape) else ""
        raise Error(f"{caller}: delta must be {wanted}, not {dtype_shape(delta)}{rows}")
    return delta


def _flag(caller: str, reset: Any, shape: tuple[int, ...]) -> jax.Array:
    """Whether sequences start, checked; it may be one flag for all rows."""
    reset = jnp.asarray(reset)
    if reset.dtype != jnp.bool or reset.shape not in ((), shape):
        wanted = " or ".join(dict.fromkeys(f"bool{list(each)}" for each in ((), shape)))
        raise Error(f"{caller}: reset must be {wanted}, not {dtype_shape(reset)}")
    return reset


def _decayed(caller: str, z: Any, grads: Any, decay: Any, reset: jax.Array) -> Any:
    """decay z + g, and g where a sequence starts, whatever z was."""

    def leaf(z, g):
        if z.shape != jnp.shape(g):
            raise Error(
                f"{caller}: the gradients have leaves {dtype_shape(g)}, and the trace has {dtype_shape(z)}; "
                "eligibility(decay, rows=B) takes gradients by row, [B, ...], as gradients(..., by_row=True) returns "
                "them, and eligibility(decay) those of no row"
            )
        return jnp.where(_beside(reset, z), 0, decay * z).astype(z.dtype) + g

    return jax.tree.map(leaf, z, grads)


def _beside(by_row: jax.Array, a: jax.Array) -> jax.Array:
    """Numbers by row, or one number, with the axes that they need beside an array [B, ...]."""
    return by_row.reshape(by_row.shape + (1,) * (a.ndim - by_row.ndim))
