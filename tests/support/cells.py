"""Cells that are not built in."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import Cell
from seqjax.models import RNN, sigmoid


@dataclass(frozen=True)
class Started(RNN):
    """A network whose initial state is learned."""

    def init(self, key, spec):
        return super().init(key, spec) | {"start": jnp.full(self.hidden, 0.3)}

    def init_state(self, params, spec, key=None):
        return jax.tree.map(lambda a: a + params["start"], super().init_state(params, spec, key))


@dataclass(frozen=True)
class MGU(Cell):
    """Minimal gated unit (Zhou et al. 2016), the gate after the product."""

    blocks = 2

    def cell(self, u, v, state):
        (u_f, u_n), (v_f, v_n) = jnp.split(u, 2, -1), jnp.split(v, 2, -1)
        f = sigmoid(u_f + v_f)
        return self.State((1 - f) * state.h + f * jnp.tanh(u_n + f * v_n))


class PeepholeState(NamedTuple):
    """h, the output, and the memory c, float[hidden] each."""

    h: Any
    c: Any


@dataclass(frozen=True)
class PeepholeLSTM(Cell):
    """An LSTM with peepholes: each gate of a unit reads its c (Gers & Schmidhuber 2000)."""

    blocks = 4
    State = PeepholeState

    def init_cell(self, key):
        """w: the weights of c in the input and the forget gate, [2, hidden]; w_o: in the output gate, [hidden]."""
        return {
            "w": 0.1 * jax.random.normal(key, (2, self.hidden)),
            "w_o": 0.1 * jax.random.normal(jax.random.fold_in(key, 1), (self.hidden,)),
        }

    def cell(self, u, v, state, w, w_o):
        i, f, g, o = jnp.split(u + v, 4, -1)
        i, f = sigmoid(i + w[0] * state.c), sigmoid(f + w[1] * state.c)
        c = f * state.c + i * jnp.tanh(g)
        return self.State(sigmoid(o + w_o * c) * jnp.tanh(c), c)


class SpikingState(NamedTuple):
    """h, 1 where the neuron spikes; the potential v; the adaptation a of its threshold; float[hidden] each."""

    h: Any
    v: Any
    a: Any


@jax.custom_jvp
def spike(x):
    """1 where x > 0, with the derivative .3 max(0, 1 - |x|)."""
    return jnp.where(x > 0, 1, 0).astype(x.dtype)


@spike.defjvp
def _spike_tangent(primals, tangents):
    (x,), (dx,) = primals, tangents
    return spike(x), 0.3 * jnp.maximum(0, 1 - jnp.abs(x)) * dx


@dataclass(frozen=True)
class AdaptiveSpiking(Cell):
    """Leaky integrate-and-fire neurons with adaptive thresholds (Bellec et al. 2018); a reset is not differentiated."""

    State = SpikingState

    def cell(self, u, v, state):
        potential = 0.8 * state.v + u + v - jax.lax.stop_gradient(0.5 * state.h)
        adaptation = 0.95 * state.a + state.h
        return SpikingState(spike(potential - 0.5 - 0.2 * adaptation), potential, adaptation)
