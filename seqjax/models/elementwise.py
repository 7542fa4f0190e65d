"""`Elementwise`: a recurrent model whose units read themselves alone, such as linear recurrences."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from seqjax.gradients.contract.problem import Params
from seqjax.gradients.steps.jaxprs import evaluate_fixed, inline_calls
from seqjax.gradients.steps.unrolling import EdgeWeights, weigh_cotangent, weigh_edge
from seqjax.models.initializers import Scheme, init_weight
from seqjax.models.layered import HiddenState, Layered, select
from seqjax.models.products import product
from seqjax.models.recurrence import affine_scan


class ComplexState(NamedTuple):
    """A complex number as a unit of two numbers, float[units] each."""

    re: Any
    im: Any

    def times(self, re: Array, im: Array) -> "ComplexState":
        """The product with the complex number re + i im."""
        return ComplexState(re * self.re - im * self.im, im * self.re + re * self.im)


@dataclass(frozen=True)
class Elementwise(Layered):
    """A recurrent network without W_hh: a unit reads its input and its own state. The author writes `cell`.

        u_t = x_t W_xh + b_h
        state_t = cell(u_t, state_{t-1}, **parameters of the cell)
        o_t = output(u_t, state_t, **parameters of the cell) W_hq + b_q

    In the lowest layer x_t is the input, and in the others it is the output of the layer below. An id x selects row x
    of W_xh. A unit is the smallest group of numbers that reads itself alone: it has one number in each field of the
    state. A complex number is a unit of two fields, `State = ComplexState`.

    If the new state is an affine function of the old one, the author declares `affine = True`. Then

        state_t = A_t state_{t-1} + b_t,   A_t [L, L] and b_t [L] for each unit of L numbers

    is computed for all steps at once, A and b from derivatives of `cell`, and only this recurrence runs over time: step
    by step, or in parallel.

    With `residual`, each layer is a block with a skip connection (Orvieto et al. 2023, arXiv:2303.06349):

        z_t = norm(x_t),  u_t = z_t W_xh + b_h,  y_t = gelu(output W_y + D z_t),  p_t, g_t = y_t W_o + b_o
        x_t + p_t σ(g_t)  is the input of the next layer

    where x_t of the lowest layer is the input of the model, times W_in, plus b_in.

    Parameters for D inputs and Q outputs: `layer_0`, `layer_1`, ... each have `W_xh` [D or hidden, blocks hidden] and
    `b_h` [blocks hidden], and `cell`, which `init_cell` returns, if there is any. The read-out has `W_hq` and `b_q`. A
    residual layer also has `scale` and `shift` [hidden] of its norm, `W_y`, `D` [hidden], `W_o` [hidden, 2 hidden] and
    `b_o`, and the model has `W_in` [D, hidden] and `b_in`.

    >>> from dataclasses import dataclass
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class Leaky(sj.Elementwise):
    ...     affine = True
    ...     def init_cell(self, key):
    ...         return {"keep": jax.random.uniform(key, (self.hidden,))}
    ...     def cell(self, u, state, keep):
    ...         return self.State(keep * state.h + (1 - keep) * u)
    >>> params = Leaky(hidden=4).init(jax.random.key(0), sj.Spec(sj.Tokens(3)))
    >>> jax.tree.map(jnp.shape, params)
    {'W_hq': (4, 3), 'b_q': (3,), 'layer_0': {'W_xh': (3, 4), 'b_h': (4,), 'cell': {'keep': (4,)}}}
    """

    residual: bool = False
    """Whether layers are blocks with a norm, a gated output and a skip connection."""
    parallel: bool | None = None
    """How an affine recurrence runs over time: in about log T passes over all steps, or step by step. None: step by
    step on a CPU, and in parallel elsewhere."""
    initializer: Scheme = "glorot"
    """The distribution of the weights: N(0, 0.01²); U(±1/√hidden); Glorot's; N(0, 1/fan_in) for `orthogonal`."""

    blocks: ClassVar[int] = 1
    """The number of blocks of `hidden` numbers in u. A class attribute, not a hyper-parameter."""
    affine: ClassVar[bool] = False
    """Whether the new state is an affine function of the old one; `seqjax check` verifies it."""
    stable: ClassVar[bool] = False
    """Whether no eigenvalue of an affine recurrence is larger than 1 in size, whatever the parameters are; `seqjax
    check` tries to find some."""
    shares: ClassVar[bool] = False
    """Whether units share what they read, so that an entry of u or of a parameter of the cell feeds several of them. If
    not, entry i of the last axis of a parameter, and entry i of u, feed the units whose number is i mod `hidden`, which
    `seqjax check` verifies. Some gradient strategies need far less memory then."""
    output_blocks: ClassVar[int] = 1
    """The number of blocks of `hidden` numbers in what `output` returns."""
    State: ClassVar[Any] = HiddenState
    """The NamedTuple of a layer's state, with fields float[units]."""

    # With `*_: Any, **own: Any` type checkers accept a `cell` that has no further arguments, or some by name.
    def cell(self, u: Array, state: Any, *_: Any, **own: Any) -> Any:
        """One step of one layer. The author writes it, for any leading axes.

        Entry i of the fields of the new state is a function of u and of the entries i of the fields of the old state
        alone.

        Args:
            u: float[..., width], x_t W_xh + b_h.
            state: the `State` of the previous step, with fields float[..., units].
            own: the layer's parameters from `init_cell`, by name.

        Returns:
            The `State` of this step.
        """
        raise NotImplementedError

    output: ClassVar[Any] = None
    """output(u, state, **parameters of the cell) -> the output of a layer after a step, float[..., output_blocks
    hidden], where `u` is as in `cell` and `state` is the new state. None: the field h of the state."""

    def init_cell(self, key: Array) -> Params:
        """The initial parameters that `cell` and `output` of one layer read by name. By default none.

        Args:
            key: a typed PRNG key, which differs from layer to layer.
        """
        return {}

    @property
    def width(self) -> int:
        """The number of entries of u."""
        return self.blocks * self.hidden

    def init(self, key, spec):
        draw = functools.partial(init_weight, self.initializer, hidden=self.hidden)
        outputs, read = spec.targets.width, self.output_blocks * self.hidden
        keys = iter(jax.random.split(key, 5 * self.layers + 3))
        shape = (self.hidden if self.residual else read, outputs)
        params: Params = {"W_hq": draw(next(keys), shape), "b_q": jnp.zeros(outputs)}
        embedding, width = self.init_embedding(next(keys), spec)
        params |= embedding
        if self.residual:
            # b_in is drawn like the weights of an input that is 1. If it were zero, the norm of the first layer would
            # remove the size of an input that is a single number.
            rows = draw(next(keys), (width + 1, self.hidden))
            params |= {"W_in": rows[:-1], "b_in": rows[-1]}
            width = self.hidden
        for index in range(self.layers):
            whole = self.width == self.blocks * self.hidden
            shape, blocks = ((width, self.hidden), self.blocks) if whole else ((width, self.width), 1)
            layer = {"W_xh": draw(next(keys), shape, blocks=blocks), "b_h": jnp.zeros(self.width)}
            if self.residual:
                layer |= {"scale": jnp.ones(self.hidden), "shift": jnp.zeros(self.hidden), "D": jnp.ones(self.hidden)}
                layer["W_y"] = draw(next(keys), (read, self.hidden))
                layer["W_o"] = draw(next(keys), (self.hidden, self.hidden), blocks=2)
                layer["b_o"] = jnp.zeros(2 * self.hidden)
            own = self.init_cell(next(keys))
            params[f"layer_{index}"] = layer | ({"cell": own} if own else {})
            width = self.hidden if self.residual else read
        return params

    def feeds_one_unit(self, name, leaf):
        if self.shares or self.units % self.hidden or not leaf.ndim or leaf.shape[-1] % self.hidden:
            return False
        return name in ("W_xh", "b_h") or name.startswith("cell.")

    def apart_units(self, parts):
        (part, *others) = parts
        if others or part.hidden is None or self.units != self.hidden:
            return None, None
        # Units do not act on each other in the step itself.
        return part, lambda params, state, x, dtype: self.step_in(dtype, params, state, x)

    @final
    def step_in(self, dtype, params, state, x):
        def run(index, layer, x, old):
            own = layer.get("cell", {})
            z, u = self._read(layer, x, dtype)
            new = self.cell(u, old, **own)
            return new, self._write(layer, z, self.layer_output(u, new, own), dtype)

        return self.through_layers(params, state, x, run, None, dtype)

    def unroll_in(self, dtype, params, state, xs, edge_weights):
        def run(index, layer, x_TB, start):
            own = layer.get("cell", {})
            z_TB, u_TB = self._read(layer, x_TB, dtype)
            if self.affine:
                A, b = coefficients(self, u_TB, own)
                states, end = affine_scan(A, b, start, edge_weights, parallel=self.parallel)
                states_TB, end = self.State(*states), self.State(*end)
            else:
                end, states_TB = scan_units(self, own, u_TB, start, edge_weights)
            return end, self._write(layer, z_TB, self.layer_output(u_TB, states_TB, own), dtype)

        return self.through_layers(params, state, xs, run, len(xs), dtype)

    @final
    def enter(self, params, x, dtype):
        """The input, or in a residual model its product with W_in, and b_in."""
        return select(x, params["W_in"], dtype) + params["b_in"] if self.residual else x

    @final
    def join(self, x, h):
        """The output of a layer, or in a residual model its sum with the input."""
        return x + h if self.residual else h

    @final
    def _read(self, layer, x, dtype=None):
        """The input of a layer after its norm, and u."""
        if self.residual:
            x = _norm(x) * layer["scale"] + layer["shift"]
        return x, select(x, layer["W_xh"], dtype) + layer["b_h"]

    def layer_output(self, u: Array, state: Any, own: Params) -> Array:
        """The output of a layer after a step, by `output` or without it."""
        return state.h if self.output is None else self.output(u, state, **own)

    @final
    def _write(self, layer, z, output, dtype=None):
        """What a layer returns."""
        if not self.residual:
            return output
        y = jax.nn.gelu(product(output, layer["W_y"], dtype) + layer["D"] * z)
        p, gate = jnp.split(product(y, layer["W_o"], dtype) + layer["b_o"], 2, -1)
        return p * jax.nn.sigmoid(gate)


def _norm(x):
    """x with mean 0 and variance 1 over its last axis (layer normalisation, Ba, Kiros & Hinton 2016)."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def coefficients(model: Elementwise, u: Array, own: Params) -> tuple[list[list[Array]], list[Array]]:
    """A and b of an affine cell for all steps, as `affine_scan` takes them.

    b is the new state of a state of zeros, and column j of A the derivative by number j of a unit: since units do not
    act on each other, a tangent of ones in field j gives this column for all units at once. Entries of A that do not
    depend on u are the same at all steps, and have no axes T and B.

    Args:
        model: the model; the state of its units has L fields.
        u: float[T, B, width], or with other leading axes.
        own: the parameters of the cell.
    """
    L = len(model.State._fields)
    zeros = model.State(*[jnp.zeros(model.units, u.dtype)] * L)

    def at_step(u):
        """b, and the columns of A, of one row at one step."""

        def column(j):
            ones = zeros._replace(**{model.State._fields[j]: jnp.ones_like(zeros[j])})
            return jax.jvp(lambda state: model.cell(u, state, **own), (zeros,), (ones,))

        results = [column(j) for j in range(L)]
        return [results[0][0], *(tangents for _, tangents in results)]

    # XLA also computes products with the state of zeros. What does not depend on u is therefore computed once, and not
    # for each step and row.
    jaxpr = inline_calls(jax.make_jaxpr(at_step)(jnp.zeros(model.width, u.dtype)))
    fixed, varying = evaluate_fixed(jaxpr)
    for _ in u.shape[:-1]:
        varying = jax.vmap(varying)
    others = iter(varying(u))
    entries = [next(others) if x is None else x for x in fixed]
    b = [jnp.broadcast_to(x, (*u.shape[:-1], model.units)) for x in entries[:L]]
    # Field i of the new state by field j of the old one is entry i of column j.
    return [[entries[L + j * L + i] for j in range(L)] for i in range(L)], b


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan_units(
    model: Elementwise, own: Params, u_TB: Float[Array, "T B width"], start: Any, edge_weights: EdgeWeights
) -> tuple[Any, Any]:
    """One layer over time, whose cell need not be affine. It is differentiated in reverse only.

    The gradients of the cell's own parameters are summed over the rows at each step, and after the scan over the steps.

    Args:
        model: the model whose function `cell` is scanned.
        own: the parameters of the cell, by name.
        u_TB: x_t W_xh + b_h of all steps.
        start: the layer's state before the first step, leaves [B, units].
        edge_weights: float[T] or float[T, B]; see `seqjax.gradients.unroll`.

    Returns:
        The state after the last step, and the states after all steps.
    """
    return _forward(model, own, u_TB, start, edge_weights)[0]


def _forward(model, own, u_TB, start, edge_weights):
    def body(old, inputs):
        u, edge_weight = inputs
        # The weights change neither a value nor a residual. A second derivative differentiates the residuals, and their
        # tangents come through the same weighted edges.
        if edge_weight is not None:
            old = weigh_edge(old, edge_weight)
        # The vjp is a pytree whose leaves are the residuals of this step; the scan stacks them over time.
        new, cell_vjp = jax.vjp(lambda u, old, own: model.cell(u, old, **own), u, old, own)
        return new, (new, cell_vjp)

    end, (states_TB, cell_vjps) = jax.lax.scan(body, start, (u_TB, edge_weights))
    return (end, states_TB), (cell_vjps, edge_weights)


def _backward(model, residuals, cotangents):
    dend, dstates_TB = cotangents

    def body(dnew, inputs):
        cell_vjp, dstate, edge_weight = inputs
        # A state reaches the loss through the next step, and through the output of its own step.
        du, dold, d_own = cell_vjp(jax.tree.map(jnp.add, dnew, dstate))
        return (dold if edge_weight is None else weigh_cotangent(dold, edge_weight)), (du, d_own)

    cell_vjps, edge_weights = residuals
    dstart, (du_TB, d_own_T) = jax.lax.scan(body, dend, (cell_vjps, dstates_TB, edge_weights), reverse=True)
    return jax.tree.map(lambda a: a.sum(0), d_own_T), du_TB, dstart, None


scan_units.defvjp(_forward, _backward)
