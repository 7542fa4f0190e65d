"""A feed-forward network on the last few inputs."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval

from seqjax import Error, Model, Tokens, register


class MLPState(NamedTuple):
    """window: the last `warmup` + 1 inputs, oldest first: float[..., dim], or int32[...] where they are tokens."""

    window: jax.Array


@register("model", "mlp")
@dataclass(frozen=True)
class MLP(Model):
    """Autoregressive network with one hidden layer, which reads the last inputs.

        f_{t,i} = 1/pool Σ_{j<pool} x_{t - i stride - j},   i = 0, ..., lags - 1
        h_t = relu([f_{t,lags-1}, ..., f_{t,0}] W_xh + b_h)
        o_t = h_t W_hq + b_q

    By default the features are the last inputs themselves. With a `stride` the same number of features reaches further
    back: they are every stride-th input or, if `pool` equals `stride`, the means of consecutive stretches of inputs.

    An id stands for its one-hot vector, which selects a row of W_xh for each lag (Bengio et al. 2003, "A neural
    probabilistic language model", without the shared embedding). Ids cannot be pooled. The state consists of inputs
    alone, so that no gradient flows through time, and all gradient strategies agree.

    Parameters for D inputs and Q outputs: `W_xh` [lags * D, hidden], with the rows of the oldest feature first; `b_h`
    [hidden]; `W_hq` [hidden, Q]; `b_q` [Q]. Weights start uniform in ±√(6 / (rows + columns)) (Glorot & Bengio 2010),
    biases at zero.
    """

    cites = ("bengio2003neural", "glorot2010understanding")

    lags: Annotated[int, Interval(ge=1)] = 4
    """Number of features, each an input or a mean of inputs."""
    hidden: Annotated[int, Interval(ge=1)] = 10
    """Number of hidden units."""
    stride: Annotated[int, Interval(ge=1)] = 1
    """Steps from one feature to the next."""
    pool: Annotated[int, Interval(ge=1)] = 1
    """Number of consecutive inputs whose mean is a feature. With 1 a feature is an input. With `pool` = `stride`, the
    means leave no gaps."""

    @property
    def warmup(self):
        """The number of steps after a reset that are not scored, since their window is not full."""
        return (self.lags - 1) * self.stride + self.pool - 1

    def init(self, key, spec):
        """Glorot's uniform weights, zero biases."""
        self._check(spec)
        shapes = {"W_xh": (self.lags * spec.inputs.width, self.hidden), "W_hq": (self.hidden, spec.targets.width)}
        draw = jax.nn.initializers.glorot_uniform()
        keys = jax.random.split(key, len(shapes))
        weights = {name: draw(k, shapes[name]) for name, k in zip(shapes, keys, strict=True)}
        return weights | {"b_h": jnp.zeros(self.hidden), "b_q": jnp.zeros(spec.targets.width)}

    def init_state(self, params, spec, key=None):
        """A window of zeros, or of id 0."""
        self._check(spec)
        if isinstance(spec.inputs, Tokens):
            return MLPState(jnp.zeros(self.warmup + 1, jnp.int32))
        return MLPState(jnp.zeros((self.warmup + 1, spec.inputs.dim), params["b_h"].dtype))

    def step(self, params, state, x):
        """The output of the window that ends with this input."""
        window = jnp.concatenate([state.window[1:], x[None]])
        return MLPState(window), self._output(params, self._pooled(window, self.stride))

    def unroll(self, params, state, xs, edge_weights=None):
        """All steps at once, without a scan."""
        num_steps = len(xs)
        inputs = jnp.concatenate([jnp.moveaxis(state.window, 1, 0), xs])  # [warmup + 1 + T, B, ...]
        # Feature l of step t is the mean that starts at entry l stride + t of the inputs.
        steps_LT = self.stride * jnp.arange(self.lags)[:, None] + jnp.arange(num_steps)
        new = MLPState(jnp.moveaxis(inputs[num_steps:], 0, 1))
        return new, self._output(params, self._pooled(inputs[1:])[steps_LT])

    def _check(self, spec):
        if isinstance(spec.inputs, Tokens) and self.pool > 1:
            raise Error(
                f"model mlp: pool = {self.pool}: the mean of ids has no meaning; pool values, or use --model.pool 1"
            )

    def _pooled(self, inputs, every=1):
        """Means of inputs n, ..., n + pool - 1 along the leading axis, for n = 0, every, 2 every, ..."""
        if self.pool == 1:
            return inputs[::every]
        sizes, strides = ((n, *(1,) * (inputs.ndim - 1)) for n in (self.pool, every))
        zero = np.zeros((), inputs.dtype)
        return jax.lax.reduce_window(inputs, zero, jax.lax.add, sizes, strides, "valid") / self.pool

    def _output(self, params, windows):
        """float[..., Q] of windows, whose leading axis is the lags: ids [lags, ...] or values [lags, ..., dim]."""
        W_LDH = params["W_xh"].reshape(self.lags, -1, self.hidden)
        if jnp.issubdtype(windows.dtype, jnp.integer):
            lags = jnp.arange(self.lags).reshape(-1, *(1,) * (windows.ndim - 1))
            u = W_LDH[lags, windows].sum(0)
        else:
            u = jnp.einsum("l...d,ldh->...h", windows, W_LDH)
        return jax.nn.relu(u + params["b_h"]) @ params["W_hq"] + params["b_q"]
