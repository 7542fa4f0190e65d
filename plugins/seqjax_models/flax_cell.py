"""The recurrent cells of Flax."""

import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Model, register
from seqjax.extras import needing
from seqjax.gradients import unroll


@register("model", "flax-cell")
@dataclass(frozen=True)
class FlaxCell(Model):
    """A recurrent cell of Flax NNX with a linear read-out.

        h_t = cell(h_{t-1}, x_t)
        o_t = h_t W_hq + b_q

    An id is read as its one-hot vector. The documentation of `flax.nnx` has the equations of the cells; the initial
    weights are Flax's.

    Parameters for Q outputs: `cell`, the parameters of the cell, a nested dict with Flax's names; `W_hq` [hidden, Q],
    from a normal distribution of variance 1/hidden (LeCun); `b_q` [Q], zeros.
    """

    extra = "flax"

    cell: Literal["SimpleCell", "GRUCell", "LSTMCell", "OptimizedLSTMCell"] = "GRUCell"
    """Name of the class in `flax.nnx`."""
    hidden: Annotated[int, Interval(ge=1)] = 256
    """Number of hidden units."""

    def init(self, key, spec):
        """Flax's own initial weights."""
        from seqjax import from_flax

        cell_key, key = jax.random.split(key)
        _, cell = from_flax(_cell(self.cell, spec.inputs.width, self.hidden, cell_key))
        W_hq = jax.nn.initializers.lecun_normal()(key, (self.hidden, spec.targets.width))
        return {"cell": cell, "W_hq": W_hq, "b_q": jnp.zeros(spec.targets.width)}

    def init_state(self, params, spec, key=None):
        """The cell's initial carry, zeros."""
        return self._model(params).init_state(params["cell"], spec, key)

    def step(self, params, state, x):
        """The cell, and then the read-out."""
        state, h = self._model(params).step(params["cell"], state, self._input(params, x))
        return state, h @ params["W_hq"] + params["b_q"]

    def unroll(self, params, state, xs, edge_weights=None):
        """The cell over time, and then the read-out of all steps at once."""
        step = functools.partial(self._model(params).step, params["cell"])
        state, h_TBH = unroll(step, state, self._input(params, xs), edge_weights)
        return state, h_TBH @ params["W_hq"] + params["b_q"]

    def _input(self, params, x):
        if not jnp.issubdtype(x.dtype, jnp.integer):
            return x
        return jax.nn.one_hot(x, self._num_inputs(params), dtype=params["W_hq"].dtype)

    def _num_inputs(self, params):
        layer = "ii" if self.cell == "LSTMCell" else "dense_i"  # Flax's name of a layer that reads the input
        return params["cell"][layer]["kernel"].shape[0]

    def _model(self, params):
        return _model(self.cell, self._num_inputs(params), self.hidden)


def _cell(name, num_inputs, hidden, key):
    with needing("flax", "model flax-cell"):
        from flax import nnx

    return getattr(nnx, name)(num_inputs, hidden, param_dtype=jnp.result_type(float), rngs=nnx.Rngs(key))


@functools.cache
def _model(name, num_inputs, hidden):
    """The model of a cell without its parameters. It is cached, so that jit traces the model of equal cells once."""
    with needing("flax", "model flax-cell"):
        from flax import nnx

    from seqjax import from_flax

    return from_flax(nnx.eval_shape(lambda: _cell(name, num_inputs, hidden, jax.random.key(0))))[0]
