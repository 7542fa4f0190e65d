"""The plain recurrent network."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Model, register


class State(NamedTuple):
    """h: float[hidden]."""

    h: jax.Array


@register("model", "rnn")
@dataclass(frozen=True)
class RNN(Model):
    """Recurrent network with one tanh layer.

        h_t = tanh(x_t W_xh + h_{t-1} W_hh + b_h)
        o_t = h_t W_hq + b_q

    An id x picks row x of W_xh, which is the product with its one-hot vector (Elman 1990, "Finding structure
    in time").

    Parameters, D inputs and Q outputs: `W_xh` [D, hidden], `W_hh` [hidden, hidden], `b_h` [hidden],
    `W_hq` [hidden, Q], `b_q` [Q]; weights from N(0, 0.01²), biases zero.
    """

    hidden: Annotated[int, Interval(ge=1)] = 256
    """Number of hidden units."""

    def init(self, key, spec):
        """Small normal weights, zero biases."""
        h = self.hidden
        shapes = {"W_xh": (spec.inputs.width, h), "W_hh": (h, h), "W_hq": (h, spec.targets.width)}
        keys = jax.random.split(key, len(shapes))
        weights = {name: 0.01 * jax.random.normal(k, shapes[name]) for name, k in zip(shapes, keys, strict=True)}
        return weights | {"b_h": jnp.zeros(h), "b_q": jnp.zeros(spec.targets.width)}

    def init_state(self, params, spec, key=None):
        """h = 0."""
        return State(jnp.zeros_like(params["b_h"]))

    def step(self, params, state, x):
        """One time step."""
        W_xh = params["W_xh"]
        u = W_xh[x] if jnp.issubdtype(x.dtype, jnp.integer) else x @ W_xh
        h = jnp.tanh(u + state.h @ params["W_hh"] + params["b_h"])
        return State(h), h @ params["W_hq"] + params["b_q"]
