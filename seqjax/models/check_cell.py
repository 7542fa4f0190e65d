"""Static checks of the functions that the author of a `Cell` or an `Elementwise` writes, by tracing them."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.errors import Error, dtype_shape, is_whole
from seqjax.gradients.contract.problem import Params
from seqjax.models.cell import Cell
from seqjax.models.elementwise import Elementwise
from seqjax.models.layered import Layered
from seqjax.plugin.author import advising
from seqjax.plugin.registry import name_of

LEADING: tuple[tuple[int, ...], ...] = ((), (2,), (3, 2))
"""The leading axes with which a cell is called."""


def check_layer(model: Layered) -> None:
    """Checks `State`, `blocks` and the results of the functions of a layer, without and with leading axes.

    Raises:
        Error: a class attribute is of the wrong kind; a method raises another exception, or returns something else.
    """
    if isinstance(model, Cell):
        _check_cell(model)
    elif isinstance(model, Elementwise):
        _check_elementwise(model)


def _check_cell(model: Cell) -> None:
    name, dtype = f"model {name_of(model)}", jnp.result_type(float)
    _check_attributes(model, name, needs_h=True)
    _check_masks(model, name)
    own = _own_params(model, name, ("u", "v", "state"))
    call = _check_call(model.cell, name, "cell", ("u", "v", "state"), own)
    width = model.blocks * model.hidden
    for leading in LEADING:
        u = jax.ShapeDtypeStruct((*leading, width), dtype)
        entry = jax.ShapeDtypeStruct((*leading, model.hidden), dtype)
        state = model.State(*[entry] * len(model.State._fields))
        what = f"u and v are {dtype_shape(u)}, blocks x hidden = {model.blocks} x {model.hidden} numbers"
        advice = _advice(call, what, entry, "u + v")
        with advising(advice):
            new = jax.eval_shape(lambda u, state, own: model.cell(u, u, state, **own), u, state, own)
        _check_new_state(model, name, new, entry, what)


def _check_elementwise(model: Elementwise) -> None:
    name, dtype = f"model {name_of(model)}", jnp.result_type(float)
    _check_attributes(model, name, needs_h=model.output is None)
    if not is_whole(model.output_blocks) or model.output_blocks < 1:
        raise Error(f"{name}: output_blocks = {model.output_blocks!r}; it must be a whole number, at least 1")
    own = _own_params(model, name, ("u", "state"))
    call = _check_call(model.cell, name, "cell", ("u", "state"), own)
    of_output = "" if model.output is None else _check_call(model.output, name, "output", ("u", "state"), own)
    for leading in LEADING:
        u = jax.ShapeDtypeStruct((*leading, model.width), dtype)
        entry = jax.ShapeDtypeStruct((*leading, model.units), dtype)
        state = model.State(*[entry] * len(model.State._fields))
        what = f"u is {dtype_shape(u)}, blocks x hidden = {model.blocks} x {model.hidden} numbers"
        with advising(_advice(call, what, entry, "u")):
            new = jax.eval_shape(lambda u, state, own: model.cell(u, state, **own), u, state, own)
        _check_new_state(model, name, new, entry, what)
        with advising(_advice(of_output, what, entry, "u")):
            out = jax.eval_shape(lambda u, state, own: model.layer_output(u, state, own), u, state, own)
        wanted = jax.ShapeDtypeStruct((*leading, model.output_blocks * model.hidden), dtype)
        if (getattr(out, "shape", None), getattr(out, "dtype", None)) != (wanted.shape, wanted.dtype):
            raise Error(
                f"{name}: output returned {dtype_shape(out)}, and must return {dtype_shape(wanted)}, output_blocks x "
                f"hidden = {model.output_blocks} x {model.hidden} numbers; set the class attribute output_blocks"
            )


def _check_attributes(model: Any, name: str, needs_h: bool) -> None:
    fields = getattr(model.State, "_fields", ())
    if needs_h and "h" not in fields:
        raise Error(
            f"{name}: State must be a NamedTuple with a field h, the output of the layer; it is {model.State!r}"
        )
    if not fields:
        raise Error(f"{name}: State must be a NamedTuple; it is {model.State!r}")
    if not is_whole(model.blocks) or model.blocks < 1:
        raise Error(f"{name}: blocks = {model.blocks!r}; it must be a whole number, at least 1")


def _check_masks(model: Cell, name: str) -> None:
    """Checks that the connectivity of each layer is None or a constant bool[hidden, hidden]."""
    wanted = f"None or a numpy array bool[{model.hidden}, {model.hidden}]"
    for layer in range(model.layers):
        with advising(f"It is called as recurrent_mask(layer), and returns {wanted}"):
            mask: Any = model.recurrent_mask(layer)
        if mask is None:
            continue
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (model.hidden, model.hidden):
            returned = dtype_shape(mask) if isinstance(mask, np.ndarray) else f"a {type(mask).__name__}"
            raise Error(f"{name}: recurrent_mask({layer}) returned {returned}, and must return {wanted}")


def _advice(call: str, what: str, entry: Any, split: str) -> str:
    return (
        f"{call} is called with arrays of any leading axes; here {what}, and the fields of the state "
        f"{dtype_shape(entry)}. Set the class attribute blocks where it splits {split}"
    )


def _check_new_state(model: Any, name: str, new: Any, entry: Any, what: str) -> None:
    """Checks that a cell returned its State, with fields like `entry`."""
    fields, state_name = model.State._fields, model.State.__name__
    if not isinstance(new, model.State):
        raise Error(
            f"{name}: cell returned {dtype_shape(new)}, and must return its State, {state_name}, such as "
            f"self.State({', '.join(f'{field}={field}' for field in fields)})"
        )
    for field, leaf in zip(fields, new, strict=True):
        if (getattr(leaf, "shape", None), getattr(leaf, "dtype", None)) != (entry.shape, entry.dtype):
            raise Error(
                f"{name}: cell returned {state_name} with {field} = {dtype_shape(leaf)}, and must return "
                f"{dtype_shape(entry)}, since {what}"
            )


def _own_params(model: Any, name: str, taken: tuple[str, ...]) -> Params:
    """The shapes and dtypes of the parameters that `cell` reads."""
    own = jax.eval_shape(model.init_cell, jax.random.key(0))
    sizes = f"float[{model.hidden}] or float[n, {model.hidden}]"
    if not isinstance(own, dict):
        raise Error(
            f"{name}: init_cell returned {dtype_shape(own)}, and must return a dict of {sizes}, such as "
            "{'w': jnp.zeros(self.hidden)}"
        )
    for key, leaf in own.items():
        if not (isinstance(key, str) and key.isidentifier()) or key in ("self", *taken):
            raise Error(
                f"{name}: init_cell returned a parameter named {key!r}; cell takes it by its name, which must be a "
                f"Python identifier other than self, {', '.join(taken[:-1])} and {taken[-1]}"
            )
        shape: tuple[int, ...] = getattr(leaf, "shape", ())
        if len(shape) not in (1, 2) or shape[-1] != model.hidden or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise Error(f"{name}: init_cell returned {key} = {dtype_shape(leaf)}, and must return {sizes}")
    return own


def _check_call(function: Any, name: str, method: str, taken: tuple[str, ...], own: Params) -> str:
    """Checks that a method takes the parameters that `init_cell` returns, and no others; returns how it is called."""
    call = f"{method}({', '.join([*taken, *own])})"
    try:
        inspect.signature(function).bind(*[None] * len(taken), **own)
    except TypeError as fault:
        returned = f"init_cell returns {', '.join(own)}" if own else "init_cell returns no parameters"
        raise Error(f"{name}: {method}: {fault}\nIt is called as {call}, since {returned}") from fault
    return call
