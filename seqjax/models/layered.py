"""`Layered`: what recurrent models of several layers share, from the embedding to the read-out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
from annotated_types import Interval
from jaxtyping import Array

from seqjax.data.spec import Spec, Tokens
from seqjax.errors import Error
from seqjax.gradients.contract.problem import Params
from seqjax.gradients.contract.structure import Part, Structure
from seqjax.gradients.steps.dependence import depends_on
from seqjax.gradients.steps.floats import leaf_names
from seqjax.gradients.steps.unrolling import EdgeWeights
from seqjax.models.model import Model
from seqjax.models.products import product

READ_OUT = frozenset({"W_hq", "b_q"})
"""The parameters of the read-out, which act on no state."""
AFTER_STATE = frozenset({"W_y", "D", "W_o", "b_o"})
"""The parameters of a residual layer that act on what it returns, and not on its state."""


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

    @final
    def step(self, params, state, x):
        return self.step_in(None, params, state, x)

    @final
    def step_in_bfloat16(self, params, state, x):
        """`step` with the operands of its products in bfloat16, as in `unroll_in_bfloat16`."""
        return self.step_in(jnp.bfloat16, params, state, x)

    def step_in(self, dtype: Any, params: Params, state: Any, x: Any) -> tuple[Any, Any]:
        """`step` with the operands of its products in a dtype; None: in their own."""
        raise NotImplementedError

    @final  # type: ignore[misc]
    def unroll(self, params, state, xs, edge_weights=None):
        """All steps at once. A subclass that knows a faster way overrides `unroll_in`."""
        return self.unroll_in(None, params, state, xs, edge_weights)

    @final
    def unroll_in_bfloat16(self, params, state, xs, edge_weights=None):
        """`unroll` with the operands of its products in bfloat16, forwards and backwards; all else keeps its dtype.

        The state in particular is not rounded: it may be a sum over many steps, in which bfloat16 would lose small
        terms.
        """
        return self.unroll_in(jnp.bfloat16, params, state, xs, edge_weights)

    def unroll_in(self, dtype: Any, params: Params, state: Any, xs: Any, edge_weights: EdgeWeights) -> tuple[Any, Any]:
        """`unroll` with the operands of its products in a dtype; None: in their own."""
        raise NotImplementedError

    def structure(self, params: Params, spec: Spec) -> Structure | None:
        """Which parameters feed which layer, and which of them feed one unit.

        None if a parameter also acts on the initial state: then it may act on all units.
        """

        def initial(params):
            # With a key, the initial state may be another function of the parameters than without one.
            return [self.init_state(params, spec, key) for key in (None, jax.random.key(0))]

        if any(depends_on(initial, params)):
            return None
        layers = [self._parts_of_layer(params, index) for index in range(self.layers)]
        if len(layers) == 1:
            return Structure(layers[0], layers[0], *self.apart_units(layers[0]))
        # A layer acts on the layers above it, and only the read-out acts on no state.
        names = frozenset(name for name, _ in leaf_names(params, "params") if name not in READ_OUT)
        whole = Part(names, 0, self.layers * len(self.State._fields) * self.units)
        return Structure([whole], [part for parts in layers for part in parts])

    def apart_units(self, parts: list[Part]) -> tuple[Part | None, Callable | None]:
        """`units` and `apart` of the structure of one layer with these parts, as `Structure` has them."""
        raise NotImplementedError

    def feeds_one_unit(self, name: str, leaf: Any) -> bool:
        """Whether units read themselves alone, and entry i of a parameter's last axis feeds unit i mod hidden alone.

        Args:
            name: the name of the parameter in its layer, such as "W_xh" or "cell.decay".
            leaf: the parameter.
        """
        return False

    def _parts_of_layer(self, params, index):
        """The parameters of a layer that feed one unit each, and all others that feed its state."""
        own, of_layers = f"layer_{index}.", tuple(f"layer_{n}." for n in range(self.layers))
        leaves = dict(leaf_names(params, "params"))
        in_layer = {name.removeprefix(own): leaf for name, leaf in leaves.items() if name.startswith(own)}
        feeding = {own + name for name in in_layer if name not in AFTER_STATE}
        if index == 0:
            feeding |= {name for name in leaves if not name.startswith(of_layers) and name not in READ_OUT}
        alone = {own + name for name, leaf in in_layer.items() if self.feeds_one_unit(name, leaf)}
        size = len(self.State._fields) * self.units
        span = (index * size, size)
        parts = [Part(frozenset(alone), *span, self.hidden), Part(frozenset(feeding - alone), *span)]
        return [part for part in parts if part.names]

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

    @final
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
