"""Models that are wrong. `wrong` is told which checks must find it."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval
from support.wrong import wrong

import seqjax
from seqjax.data import Tokens
from seqjax.gradients import unroll
from seqjax.models import CountBasedModel

CALLS = []


@dataclass(frozen=True)
class Base(seqjax.Model):
    """A correct model, from which the others are derived: tanh units."""

    hidden: Annotated[int, Interval(ge=1)] = 3
    """The number of units."""

    def init(self, key, spec):
        width = spec.inputs.width
        shapes = {"U": (width, self.hidden), "W": (self.hidden, self.hidden), "V": (self.hidden, spec.targets.width)}
        keys = dict(zip(shapes, jax.random.split(key, 3), strict=True))
        return {name: 0.5 * jax.random.normal(keys[name], shape) for name, shape in shapes.items()}

    def init_state(self, params, spec, key=None):
        return {"h": jnp.zeros(self.hidden, params["W"].dtype)}

    def read(self, params, x):
        """The part of the input; an id selects a row."""
        return params["U"][x] if jnp.issubdtype(x.dtype, jnp.integer) else x @ params["U"]

    def step(self, params, state, x):
        h = jnp.tanh(self.read(params, x) + state["h"] @ params["W"])
        return {"h": h}, h @ params["V"]


@dataclass(frozen=True)
class Small(seqjax.Cell):
    """A cell with few units."""

    hidden: Annotated[int, Interval(ge=1)] = 4
    """The number of units."""


@wrong("model", "shapes and dtypes")
class StateOfAnotherShape(Base):
    """Its state grows."""

    def step(self, params, state, x):
        new, output = super().step(params, {"h": state["h"][: self.hidden]}, x)
        return {"h": jnp.append(new["h"], 1)}, output


@wrong("model", "shapes and dtypes")
class TokensAlone(Base):
    """It takes ids alone, and does not say so."""

    def read(self, params, x):
        return params["U"][x]


@wrong("model", "shapes and dtypes")
class BareTuple(Small):
    """Its cell returns a bare tuple."""

    def cell(self, u, v, state):
        return (jnp.tanh(u + v),)


@wrong("model", "elementwise")
class NeighboursSwapped(Small):
    """Units 0 and 1 are swapped, and 2 and 3: no half of the units reads the other half."""

    def cell(self, u, v, state):
        swapped = state.h.reshape(*state.h.shape[:-1], -1, 2)[..., ::-1].reshape(state.h.shape)
        return self.State(jnp.tanh(u + v + 0.5 * swapped))


@wrong("model", "step is pure", "rows are independent", "float32 and bfloat16")
class OutsideOfItsRange(Small):
    """Its time constants start in a range, and training may leave it."""

    def init_cell(self, key):
        return {"a": jax.random.uniform(key, (self.hidden,), minval=0.5, maxval=0.9)}

    def cell(self, u, v, state, a):
        return self.State(a * state.h + jnp.sqrt(1 - a * a) * jnp.tanh(u + v))


@wrong("model", "elementwise")
class OwnWeightsOfAnotherUnit(Small):
    """Each unit reads the weight of its neighbour."""

    def init_cell(self, key):
        return {"w": jnp.zeros(self.hidden)}

    def cell(self, u, v, state, w):
        return self.State(jnp.tanh(u + v + jnp.roll(w, 1) * state.h))


@wrong("model", "init")
class SameWeightsForEveryKey(Base):
    """Its initial weights do not depend on the key."""

    def init(self, key, spec):
        return super().init(jax.random.key(0), spec)


@wrong("model", "reads its input")
class DoesNotRead(Base):
    """It does not read its input."""

    def read(self, params, x):
        return params["U"][0]


@wrong("model", "step is pure")
class CountsItsCalls(Base):
    """Its output depends on how often it was called."""

    def step(self, params, state, x):
        CALLS.append(None)
        new, output = super().step(params, state, x)
        return new, output if isinstance(output, jax.core.Tracer) else output + len(CALLS)


class OwnUnroll(Base):
    """A correct model with an `unroll` of its own."""

    def unroll(self, params, state, xs, edge_weights=None):
        return unroll(lambda state, x: self.step(params, state, x), state, xs, edge_weights)


@wrong("model", "causal", "halves equal the whole", "unroll is the scan of step")
class SeesTheFuture(OwnUnroll):
    """Each output is the mean with the next one."""

    def unroll(self, params, state, xs, edge_weights=None):
        state, outputs = super().unroll(params, state, xs, edge_weights)
        return state, (outputs + jnp.concatenate([outputs[1:], outputs[-1:]])) / 2


@wrong("model", "rows are independent", "two devices", "unroll is the scan of step")
class NormalisesOverRows(OwnUnroll):
    """It subtracts the mean over the rows of a batch."""

    def unroll(self, params, state, xs, edge_weights=None):
        state, outputs = super().unroll(params, state, xs, edge_weights)
        return state, outputs - outputs.mean(1, keepdims=True)


@wrong("model", "halves equal the whole", "unroll is the scan of step")
class CountsFromTheWindow(OwnUnroll):
    """Its outputs depend on the number of the step in the window."""

    def unroll(self, params, state, xs, edge_weights=None):
        state, outputs = super().unroll(params, state, xs, edge_weights)
        return state, outputs + jnp.arange(len(outputs), dtype=outputs.dtype)[:, None, None]


@wrong("model", "finite gradients")
class NormOfZero(Base):
    """Its gradient is NaN in the initial state."""

    def step(self, params, state, x):
        new, output = super().step(params, state, x)
        return new, output / (1 + jnp.linalg.norm(state["h"] @ params["W"]))


@wrong("model", "float32 and bfloat16")
class ConstantsInFloat32(Base):
    """It mixes dtypes, which only some computations forbid."""

    def step(self, params, state, x):
        new, output = super().step(params, state, x)
        if output.dtype != jnp.bfloat16:
            return new, output
        return new, jax.lax.add(output, jnp.ones_like(output, jnp.float32))


@wrong("model", "vmap over parameters")
class CannotBeMapped(OwnUnroll):
    """It calls a function of Python, which works for one set of parameters at a time."""

    def unroll(self, params, state, xs, edge_weights=None):
        state, outputs = super().unroll(params, state, xs, edge_weights)
        return state, jax.pure_callback(lambda a: a, outputs, outputs)


@wrong("model", "finite gradients", "gradient strategies")
class HasNoReverseMode(Base):
    """Its step has a derivative in forward mode alone."""

    def step(self, params, state, x):
        h = jnp.tanh(self.read(params, x) + state["h"] @ params["W"])
        _, h = jax.lax.while_loop(lambda carry: carry[0] < 1, lambda carry: (carry[0] + 1, jnp.tanh(carry[1])), (0, h))
        return {"h": h}, h @ params["V"]


@wrong("model", "count")
class CountsInRandomOrder(CountBasedModel):
    """Its counts differ from call to call."""

    def count(self, stream, spec):
        if not isinstance(spec.targets, Tokens):
            raise seqjax.Error("it counts tokens alone")
        CALLS.append(None)
        return {"counts": jnp.full(spec.targets.width, len(CALLS), jnp.int32)}

    def init_state(self, params, spec, key=None):
        return ()

    def step(self, params, state, x):
        counts = params["counts"].astype(float) + 1
        return state, jnp.log(counts / counts.sum())
