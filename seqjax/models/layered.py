"""`Layered`: what recurrent models of several layers share, from the embedding to the read-out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval
from jaxtyping import Array

from seqjax.data.spec import Spec, Tokens
from seqjax.errors import Error
from seqjax.gradients.problem import Params
from seqjax.gradients.unrolling import EdgeWeights
from seqjax.models.model import Model
from seqjax.models.products import product


class HiddenState(NamedTuple):
    """h: float[hidden], the output of a layer."""

    h: Any


class CellState(NamedTuple):
    """The state of a `Layered` model.

    Args:
        layers: the state of each layer, from the lowest to the highest.
        key: the randomness of the dropout; () without dropout.
        step: int32[], the number of steps since the sequence started; () without dropout.
    """

    layers: tuple
    key: Any = ()
    step: Any = ()


@dataclass(frozen=True)
class Layered(Model):
    """A recurrent network of one or several layers, the base class of `Cell` and `Elementwise`.

    Parameters: `layer_0`, `layer_1`, ..., the read-out `W_hq` and `b_q`, and an embedding `E` [D, embedding].
    """

    hidden: Annotated[int, Interval(ge=1)] = 256
    """Number of hidden units in a layer."""
    layers: Annotated[int, Interval(ge=1, le=1000)] = 1
    """Number of layers. The compile time grows with it."""
    embedding: Annotated[int, Interval(ge=1)] | None = None
    """Size of the embedding vectors of ids, which start as N(0, 1). None: ids select rows of W_xh."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Probability that a unit of a layer's output is zero; the others are multiplied by 1 / (1 - dropout)."""

    State: ClassVar[Any] = HiddenState
    """The NamedTuple of a layer's state, with fields float[units]."""

    @property
    def units(self) -> int:
        """The number of units of a layer, the size of each field of its state."""
        return self.hidden

    @property
    def is_random(self) -> bool:
        """Whether there is dropout."""
        return self.dropout > 0

    def init_state(self, params, spec, key=None):
        """Zeros; with dropout, also the key and the number of steps."""
        zero = jnp.zeros(self.units, params["W_hq"].dtype)
        layer = self.State(*[zero] * len(self.State._fields))
        noise = (key, jnp.zeros((), jnp.int32)) if key is not None and self.is_random else ()
        return CellState((layer,) * self.layers, *noise)

    @property
    def has_own_unroll(self):
        """Whether a subclass overrides `unroll`, which here reads the edge weights."""
        return type(self).unroll is not Layered.unroll

    def step(self, params, state, x):
        return self.step_in(None, params, state, x)

    def step_in_bfloat16(self, params, state, x):
        """`step` with the operands of its products in bfloat16, as in `unroll_in_bfloat16`."""
        if self.has_own_unroll:
            return super().step_in_bfloat16(params, state, x)
        return self.step_in(jnp.bfloat16, params, state, x)

    def step_in(self, dtype: Any, params: Params, state: Any, x: Any) -> tuple[Any, Any]:
        """`step` with the operands of its products in a dtype; None: in their own."""
        raise NotImplementedError

    def unroll(self, params, state, xs, edge_weights=None):
        return self.unroll_in(None, params, state, xs, edge_weights)

    def unroll_in_bfloat16(self, params, state, xs, edge_weights=None):
        """`unroll` with the operands of its products in bfloat16, forwards and backwards; all else keeps its dtype.

        The state in particular is not rounded: it may be a sum over many steps, in which bfloat16 would lose small
        terms.
        """
        if self.has_own_unroll:
            return super().unroll_in_bfloat16(params, state, xs, edge_weights)
        return self.unroll_in(jnp.bfloat16, params, state, xs, edge_weights)

    def unroll_in(self, dtype: Any, params: Params, state: Any, xs: Any, edge_weights: EdgeWeights) -> tuple[Any, Any]:
        """`unroll` with the operands of its products in a dtype; None: in their own."""
        raise NotImplementedError

    def init_embedding(self, key: Array, spec: Spec) -> tuple[Params, int]:
        """The embedding, if there is one, and the number of inputs of the lowest layer.

        Raises:
            Error: the inputs are no ids, which an embedding needs.
        """
        width = spec.inputs.width
        if self.embedding is None:
            return {}, width
        if not isinstance(spec.inputs, Tokens):
            raise Error(f"embedding = {self.embedding}: the inputs are {spec.inputs}, and not ids; leave it out")
        return {"E": jax.random.normal(key, (width, self.embedding))}, self.embedding

    def through_layers(
        self, params: Params, state: Any, x: Any, run: Callable, num_steps: int | None, dtype: Any = None
    ) -> tuple[CellState, Any]:
        """The new state and the output after one step of one sequence, or after T steps of B rows.

        Args:
            params: the parameters.
            state: the state before the first step.
            x: the input of the step, or of all steps.
            run: (number of the layer, its parameters, its input, its state) -> (its new state, its output).
            num_steps: T; None: one step of one sequence.
            dtype: as in `product`.
        """
        is_noisy = not isinstance(state.key, tuple)
        x = self.enter(params, x if self.embedding is None else params["E"][x], dtype)
        ends = []
        for index, start in enumerate(state.layers):
            end, h = run(index, params[f"layer_{index}"], x, start)
            ends.append(end)
            if is_noisy and self.dropout:
                h = jnp.where(self._kept(state, index, h, num_steps), h / (1 - self.dropout), jnp.zeros_like(h))
            x = self.join(x, h)
        counter = state.step + (num_steps or 1) if is_noisy else state.step
        return CellState(tuple(ends), state.key, counter), product(x, params["W_hq"], dtype) + params["b_q"]

    def enter(self, params: Params, x: Any, dtype: Any) -> Any:
        """The input of the lowest layer."""
        return x

    def join(self, x: Any, h: Any) -> Any:
        """The input of the next layer, from the input and the output of this one."""
        return h

    def _kept(self, state, layer, h, num_steps):
        """The units of a layer's output that dropout keeps, in the shape of h."""

        def one(key, step):
            key = jax.random.fold_in(jax.random.fold_in(key, step), layer)
            return jax.random.bernoulli(key, 1 - self.dropout, h.shape[-1:])

        if num_steps is None:
            return one(state.key, state.step)
        steps_TB = state.step + jnp.arange(num_steps, dtype=jnp.int32)[:, None]
        return jax.vmap(jax.vmap(one), (None, 0))(state.key, steps_TB)


def select(x: Array, W: Array, dtype: Any = None) -> Array:
    """x W; of ids x the rows of W, which equal the products of their one-hot vectors with W."""
    return W[x] if jnp.issubdtype(x.dtype, jnp.integer) else product(x, W, dtype)


def sigmoid(x: Array) -> Array:
    """The logistic function σ(x) = (tanh(x/2) + 1) / 2. In a scan on a CPU it is faster than `jax.nn.sigmoid`.

    Args:
        x: float[...].
    """
    return 0.5 * jnp.tanh(0.5 * x) + 0.5
