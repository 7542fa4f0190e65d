"""A network on the last few inputs."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Model, Tokens, register


class State(NamedTuple):
    """window: the last inputs, oldest first: float[lags, dim], or int32[lags] where they are tokens."""

    window: jax.Array


@register("model", "mlp")
@dataclass(frozen=True)
class MLP(Model):
    """Autoregressive network with one hidden layer on the last inputs.

        h_t = relu([x_{t-lags+1}, ..., x_t] W_xh + b_h)
        o_t = h_t W_hq + b_q

    An id stands for its one-hot vector, so it picks a row of W_xh for each lag (Bengio et al. 2003, "A neural
    probabilistic language model", without the shared embedding). Its state holds inputs alone: no gradient travels
    through it, and all strategies agree.

    Parameters, D inputs and Q outputs: `W_xh` [lags * D, hidden], the rows of the oldest input first; `b_h` [hidden];
    `W_hq` [hidden, Q]; `b_q` [Q]. Weights are uniform in ±√(6 / (rows + columns)) (Glorot & Bengio 2010), biases zero.
    """

    lags: Annotated[int, Interval(ge=1)] = 4
    """Number of inputs that an output depends on."""
    hidden: Annotated[int, Interval(ge=1)] = 10
    """Number of hidden units."""

    @property
    def context(self):
        """Outputs after a fresh state that are not scored: their window is not full yet."""
        return self.lags - 1

    def init(self, key, spec):
        """Glorot's uniform weights, zero biases."""
        shapes = {"W_xh": (self.lags * spec.inputs.width, self.hidden), "W_hq": (self.hidden, spec.targets.width)}
        draw = jax.nn.initializers.glorot_uniform()
        keys = jax.random.split(key, len(shapes))
        weights = {name: draw(k, shapes[name]) for name, k in zip(shapes, keys, strict=True)}
        return weights | {"b_h": jnp.zeros(self.hidden), "b_q": jnp.zeros(spec.targets.width)}

    def init_state(self, params, spec, key=None):
        """A window of zeros, or of id 0."""
        if isinstance(spec.inputs, Tokens):
            return State(jnp.zeros(self.lags, jnp.int32))
        return State(jnp.zeros((self.lags, spec.inputs.dim), params["b_h"].dtype))

    def step(self, params, state, x):
        """One time step."""
        window = jnp.concatenate([state.window[1:], x[None]])
        return State(window), self._output(params, window)

    def unroll(self, params, state, xs, gates=None):
        """All steps at once."""
        num_steps = len(xs)
        inputs = jnp.concatenate([jnp.moveaxis(state.window, 1, 0), xs])  # [lags + T, B, ...]
        steps_LT = 1 + jnp.arange(self.lags)[:, None] + jnp.arange(num_steps)
        new = State(jnp.moveaxis(inputs[num_steps:], 0, 1))
        return new, self._output(params, inputs[steps_LT])

    def _output(self, params, windows):
        """float[..., Q] from windows with the lags along the leading axis: ids [lags, ...], values [lags, ..., dim]."""
        W_LDH = params["W_xh"].reshape(self.lags, -1, self.hidden)
        if jnp.issubdtype(windows.dtype, jnp.integer):
            lags = jnp.arange(self.lags).reshape(-1, *(1,) * (windows.ndim - 1))
            u = W_LDH[lags, windows].sum(0)
        else:
            u = jnp.einsum("l...d,ldh->...h", windows, W_LDH)
        return jax.nn.relu(u + params["b_h"]) @ params["W_hq"] + params["b_q"]
