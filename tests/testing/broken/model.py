"""Models that are wrong. `rejected_by` names the check that must find it."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from annotated_types import Interval

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


@seqjax.register("model", "state-of-another-shape")
@dataclass(frozen=True)
class StateOfAnotherShape(Base):
    """Its state grows."""

    rejected_by: ClassVar = {"shapes and dtypes"}

    def step(self, params, state, x):
        new, output = super().step(params, {"h": state["h"][: self.hidden]}, x)
        return {"h": jnp.append(new["h"], 1)}, output


@seqjax.register("model", "output-of-another-width")
@dataclass(frozen=True)
class OutputOfAnotherWidth(Base):
    """Its output is the state."""

    hidden: Annotated[int, Interval(ge=1)] = 7
    """The number of units."""
    rejected_by: ClassVar = {"shapes and dtypes"}

    def step(self, params, state, x):
        new, _ = super().step(params, state, x)
        return new, new["h"]


@seqjax.register("model", "tokens-alone")
@dataclass(frozen=True)
class TokensAlone(Base):
    """It takes ids alone, and does not say so."""

    rejected_by: ClassVar = {"shapes and dtypes"}

    def read(self, params, x):
        return params["U"][x]


@seqjax.register("model", "bare-tuple")
@dataclass(frozen=True)
class BareTuple(seqjax.Cell):
    """Its cell returns a bare tuple."""

    hidden: Annotated[int, Interval(ge=1)] = 3
    """The number of units."""
    rejected_by: ClassVar = {"shapes and dtypes"}

    def cell(self, u, v, state):
        return (jnp.tanh(u + v),)


@seqjax.register("model", "blocks-forgotten")
@dataclass(frozen=True)
class BlocksForgotten(seqjax.Cell):
    """Its cell needs two blocks, and there is one."""

    hidden: Annotated[int, Interval(ge=1)] = 4
    """The number of units."""
    rejected_by: ClassVar = {"shapes and dtypes"}

    def cell(self, u, v, state):
        f, g = jnp.split(u + v, 2, -1)
        return self.State(jax.nn.sigmoid(f) * jnp.tanh(g))


@seqjax.register("model", "mean-over-units")
@dataclass(frozen=True)
class MeanOverUnits(seqjax.Cell):
    """Its cell normalises over units."""

    hidden: Annotated[int, Interval(ge=1)] = 4
    """The number of units."""
    rejected_by: ClassVar = {"elementwise"}

    def cell(self, u, v, state):
        a = u + v
        return self.State(jnp.tanh(a - a.mean(-1, keepdims=True)))


@seqjax.register("model", "neighbours-swapped")
@dataclass(frozen=True)
class NeighboursSwapped(seqjax.Cell):
    """Units 0 and 1 are swapped, and 2 and 3: no half of the units reads the other half."""

    hidden: Annotated[int, Interval(ge=1)] = 4
    """The number of units."""
    rejected_by: ClassVar = {"elementwise"}

    def cell(self, u, v, state):
        swapped = state.h.reshape(*state.h.shape[:-1], -1, 2)[..., ::-1].reshape(state.h.shape)
        return self.State(jnp.tanh(u + v + 0.5 * swapped))


@seqjax.register("model", "outside-of-its-range")
@dataclass(frozen=True)
class OutsideOfItsRange(seqjax.Cell):
    """Its time constants start in a range, and training may leave it."""

    hidden: Annotated[int, Interval(ge=1)] = 4
    """The number of units."""
    rejected_by: ClassVar = {
        "step is pure", "causal", "rows are independent", "halves equal the whole", "two devices", "reads its input",
        "unroll is the scan of step", "finite gradients", "vmap over parameters", "float32 and bfloat16",
        "gradient strategies",
    }  # fmt: skip

    def init_cell(self, key):
        return {"a": jax.random.uniform(key, (self.hidden,), minval=0.5, maxval=0.9)}

    def cell(self, u, v, state, a):
        return self.State(a * state.h + jnp.sqrt(1 - a * a) * jnp.tanh(u + v))


@seqjax.register("model", "own-weights-of-another-unit")
@dataclass(frozen=True)
class OwnWeightsOfAnotherUnit(seqjax.Cell):
    """Each unit reads the weight of its neighbour."""

    hidden: Annotated[int, Interval(ge=1)] = 4
    """The number of units."""
    rejected_by: ClassVar = {"elementwise"}

    def init_cell(self, key):
        return {"w": jnp.zeros(self.hidden)}

    def cell(self, u, v, state, w):
        return self.State(jnp.tanh(u + v + jnp.roll(w, 1) * state.h))


@seqjax.register("model", "same-weights-for-every-key")
@dataclass(frozen=True)
class SameWeightsForEveryKey(Base):
    """Its initial weights do not depend on the key."""

    rejected_by: ClassVar = {"init"}

    def init(self, key, spec):
        return super().init(jax.random.key(0), spec)


@seqjax.register("model", "does-not-read")
@dataclass(frozen=True)
class DoesNotRead(Base):
    """It does not read its input."""

    rejected_by: ClassVar = {"reads its input"}

    def read(self, params, x):
        return params["U"][0]


@seqjax.register("model", "fails-with-a-key")
@dataclass(frozen=True)
class FailsWithAKey(Base):
    """Training gives it a key, which it does not take."""

    rejected_by: ClassVar = {"shapes and dtypes"}

    def init_state(self, params, spec):
        return {"h": jnp.zeros(self.hidden, params["W"].dtype)}


@seqjax.register("model", "state-is-a-number")
@dataclass(frozen=True)
class StateIsANumber(Base):
    """A leaf of its state is a number of Python."""

    rejected_by: ClassVar = {"shapes and dtypes"}

    def init_state(self, params, spec, key=None):
        return super().init_state(params, spec) | {"n": 0}

    def step(self, params, state, x):
        new, output = super().step(params, state, x)
        return new | {"n": state["n"] + 1}, output


@seqjax.register("model", "counts-its-calls")
@dataclass(frozen=True)
class CountsItsCalls(Base):
    """Its output depends on how often it was called."""

    rejected_by: ClassVar = {"step is pure"}

    def step(self, params, state, x):
        CALLS.append(None)
        new, output = super().step(params, state, x)
        return new, output if isinstance(output, jax.core.Tracer) else output + len(CALLS)


class OwnUnroll(Base):
    """A correct model with an `unroll` of its own."""

    def unroll(self, params, state, xs, edge_weights=None):
        return unroll(lambda state, x: self.step(params, state, x), state, xs, edge_weights)


@seqjax.register("model", "sees-the-future")
@dataclass(frozen=True)
class SeesTheFuture(OwnUnroll):
    """Each output is the mean with the next one."""

    rejected_by: ClassVar = {"causal", "halves equal the whole", "unroll is the scan of step"}

    def unroll(self, params, state, xs, edge_weights=None):
        state, outputs = super().unroll(params, state, xs, edge_weights)
        return state, (outputs + jnp.concatenate([outputs[1:], outputs[-1:]])) / 2


@seqjax.register("model", "normalises-over-rows")
@dataclass(frozen=True)
class NormalisesOverRows(OwnUnroll):
    """It subtracts the mean over the rows of a batch."""

    rejected_by: ClassVar = {"rows are independent", "two devices", "unroll is the scan of step"}

    def unroll(self, params, state, xs, edge_weights=None):
        state, outputs = super().unroll(params, state, xs, edge_weights)
        return state, outputs - outputs.mean(1, keepdims=True)


@seqjax.register("model", "counts-from-the-window")
@dataclass(frozen=True)
class CountsFromTheWindow(OwnUnroll):
    """Its outputs depend on the number of the step in the window."""

    rejected_by: ClassVar = {"halves equal the whole", "unroll is the scan of step"}

    def unroll(self, params, state, xs, edge_weights=None):
        state, outputs = super().unroll(params, state, xs, edge_weights)
        return state, outputs + jnp.arange(len(outputs), dtype=outputs.dtype)[:, None, None]


@seqjax.register("model", "ignores-edge-weights")
@dataclass(frozen=True)
class IgnoresEdgeWeights(OwnUnroll):
    """Nothing is ever cut."""

    rejected_by: ClassVar = {"unroll is the scan of step"}

    def unroll(self, params, state, xs, edge_weights=None):
        return super().unroll(params, state, xs)


@seqjax.register("model", "weighs-one-step-late")
@dataclass(frozen=True)
class WeighsOneStepLate(OwnUnroll):
    """Its edge weights are shifted by one step."""

    rejected_by: ClassVar = {"unroll is the scan of step"}

    def unroll(self, params, state, xs, edge_weights=None):
        return super().unroll(params, state, xs, None if edge_weights is None else jnp.roll(edge_weights, 1, 0))


@seqjax.register("model", "norm-of-zero")
@dataclass(frozen=True)
class NormOfZero(Base):
    """Its gradient is NaN in the initial state."""

    rejected_by: ClassVar = {"finite gradients"}

    def step(self, params, state, x):
        new, output = super().step(params, state, x)
        return new, output / (1 + jnp.linalg.norm(state["h"] @ params["W"]))


@seqjax.register("model", "constants-in-float32")
@dataclass(frozen=True)
class ConstantsInFloat32(Base):
    """It mixes dtypes, which only some computations forbid."""

    rejected_by: ClassVar = {"float32 and bfloat16"}

    def step(self, params, state, x):
        new, output = super().step(params, state, x)
        if output.dtype != jnp.bfloat16:
            return new, output
        return new, jax.lax.add(output, jnp.ones_like(output, jnp.float32))


@seqjax.register("model", "cannot-be-mapped")
@dataclass(frozen=True)
class CannotBeMapped(OwnUnroll):
    """It calls a function that works for one set of parameters at a time."""

    rejected_by: ClassVar = {"vmap over parameters"}

    def unroll(self, params, state, xs, edge_weights=None):
        state, outputs = super().unroll(params, state, xs, edge_weights)
        return state, outputs + 0 * _alone(jax.lax.stop_gradient(params["W"])).sum()


@jax.custom_batching.custom_vmap
def _alone(W):
    return W


@_alone.def_vmap
def _(axis_size, in_batched, W):
    raise ValueError("it works for one set of parameters at a time")


@seqjax.register("model", "hides-its-step")
@dataclass(frozen=True)
class HidesItsStep(Base):
    """Its step has a derivative in reverse mode alone."""

    rejected_by: ClassVar = {"gradient strategies"}

    def step(self, params, state, x):
        h = _reverse_only(self.read(params, x) + state["h"] @ params["W"])
        return {"h": h}, h @ params["V"]


@jax.custom_vjp
def _reverse_only(a):
    return jnp.tanh(a)


_reverse_only.defvjp(lambda a: (jnp.tanh(a), jnp.tanh(a)), lambda h, d: (d * (1 - h * h),))


@seqjax.register("model", "counts-in-random-order")
@dataclass(frozen=True)
class CountsInRandomOrder(CountBasedModel):
    """Its counts differ from call to call."""

    rejected_by: ClassVar = {"count"}

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
