"""Outputs of a model for new data, and predictions and forecasts of a series."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from seqjax.data.spec import Spec, Values
from seqjax.errors import Error, check_whole
from seqjax.gradients.contract.problem import Params
from seqjax.models.model import Model


@functools.partial(jax.jit, static_argnums=(0, 1))
def outputs(model: Model, spec: Spec, params: Params, xs: Any, starts: Bool[Array, " n"]) -> Float[Array, "n width"]:
    """The output of a model after each input. The model starts each document in its initial state.

    Args:
        model: the model.
        spec: its inputs and outputs.
        params: its parameters.
        xs: the inputs in order, int32[n] or float[n, dim].
        starts: whether a document starts with this input.

    Returns:
        float[n, width]; the first model.warmup entries of each document are NaN.
    """
    initial = model.init_state(params, spec)

    def read(carry, entry):
        state, position = carry
        x, is_start = entry
        state = jax.tree.map(lambda new, old: jnp.where(is_start, new, old), initial, state)
        position = jnp.where(is_start, 0, position)
        state, output = model.step(params, state, x)
        return (state, position + 1), jnp.where(position < model.warmup, jnp.nan, output)

    return jax.lax.scan(read, (initial, jnp.zeros((), jnp.int32)), (xs, starts))[1]


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def predict(model: Model, spec: Spec, params: Params, xs: Float[Array, "n dim"], ahead: int) -> Float[Array, "n dim"]:
    """Predictions of each value of a series, a number of steps ahead.

    The model reads xs[0], ..., xs[t - ahead], and then its own predictions up to that of xs[t].

    Args:
        model: a model that predicts the next value.
        spec: its inputs and outputs.
        params: its parameters.
        xs: the series.
        ahead: the number of steps, at least 1.

    Returns:
        float[n, dim]; entry t is the prediction of xs[t]. The first ahead + model.warmup entries are NaN.
    """

    def read(state, x):
        state, y = model.step(params, state, x)
        return state, (state, y)

    def go_on(carry, _):
        states, y_TD = carry
        return jax.vmap(functools.partial(model.step, params))(states, y_TD), None

    # The states after every step are kept, so that the predictions from all of them are continued side by side.
    read_all = jax.lax.scan(read, model.init_state(params, spec), xs)[1]
    (_, y_TD), _ = jax.lax.scan(go_on, read_all, length=ahead - 1)
    first = min(ahead + model.warmup, len(xs))
    return jnp.full(xs.shape, jnp.nan, y_TD.dtype).at[first:].set(y_TD[first - ahead : len(xs) - ahead])


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def forecast(
    model: Model, spec: Spec, params: Params, history: Float[Array, "n dim"], steps: int
) -> Float[Array, "steps dim"]:
    """The values that a model predicts after a history. It reads the history, and then each of its own predictions.

    Args:
        model: a model that predicts the next value.
        spec: its inputs and outputs.
        params: its parameters.
        history: the known values.
        steps: the number of values to predict, at least 1.
    """
    step = functools.partial(model.step, params)
    state, y_TD = jax.lax.scan(step, model.init_state(params, spec), history)

    def go_on(carry, _):
        state, y = carry
        return step(state, y), y

    return jax.lax.scan(go_on, (state, y_TD[-1]), length=steps)[1]


def check_series(model: Model, spec: Spec, shape: tuple[int, ...], count: Any, name: str) -> None:
    """Checks that a model can forecast a series.

    Args:
        model: the model.
        spec: its inputs and outputs.
        shape: the shape of the series.
        count: the number of steps.
        name: the name of `count`, for messages.

    Raises:
        Error: the model cannot read its own predictions; the series has another dim or is too short; `count` is not a
            whole number, at least 1.
    """
    if not isinstance(spec.inputs, Values) or spec.targets != spec.inputs:
        raise Error(
            f"a model that reads {spec.inputs} and predicts {spec.targets} does not forecast a series, since it cannot "
            "read its own predictions; train a model on a Series"
        )
    if len(shape) != 2 or shape[1] != spec.inputs.dim or shape[0] <= model.warmup:
        raise Error(f"the model reads float[n, {spec.inputs.dim}], n at least {model.warmup + 1}; found shape {shape}")
    check_whole(below_2_to=31, **{name: (count, 1)})
