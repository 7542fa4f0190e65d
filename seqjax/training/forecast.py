"""Going on with a series: predictions some steps ahead of what is known, and forecasts of what is not."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from seqjax.data.spec import Spec, Values
from seqjax.errors import Error, is_whole
from seqjax.gradients.problem import Params
from seqjax.models.model import Model


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def predict(model: Model, spec: Spec, params: Params, xs: Float[Array, "n dim"], ahead: int) -> Float[Array, "n dim"]:
    """Entry t is the prediction of xs[t] from xs up to t - ahead; NaN where there is none.

    The model reads the series up to each step, and from there on its own predictions.
    """

    def read(state, x):
        state, y = model.step(params, state, x)
        return state, (state, y)

    def go_on(carry, _):
        states, y_TD = carry
        return jax.vmap(functools.partial(model.step, params))(states, y_TD), None

    read_all = jax.lax.scan(read, model.init_state(params, spec), xs)[1]
    (_, y_TD), _ = jax.lax.scan(go_on, read_all, length=ahead - 1)
    first = min(ahead + model.warmup, len(xs))
    return jnp.full(xs.shape, jnp.nan, y_TD.dtype).at[first:].set(y_TD[first - ahead : len(xs) - ahead])


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def forecast(
    model: Model, spec: Spec, params: Params, history: Float[Array, "n dim"], steps: int
) -> Float[Array, "steps dim"]:
    """What follows a history: the model reads it, then each of its own predictions."""
    step = functools.partial(model.step, params)
    state, y_TD = jax.lax.scan(step, model.init_state(params, spec), history)

    def go_on(carry, _):
        state, y = carry
        return step(state, y), y

    return jax.lax.scan(go_on, (state, y_TD[-1]), length=steps)[1]


def check_series(model: Model, spec: Spec, shape: tuple[int, ...], count: Any, name: str) -> None:
    """Raises an `Error` unless the model can read its own predictions, and there is something for it to read."""
    if not isinstance(spec.inputs, Values) or spec.targets != spec.inputs:
        raise Error(
            f"a model of {spec.inputs} to {spec.targets} does not forecast; a series is continued by its values"
        )
    if len(shape) != 2 or shape[1] != spec.inputs.dim or shape[0] <= model.warmup:
        raise Error(f"the model reads float[n, {spec.inputs.dim}], n at least {model.warmup + 1}; found shape {shape}")
    if not is_whole(count) or count < 1:
        raise Error(f"{name} = {count!r} must be a whole number, at least 1")
