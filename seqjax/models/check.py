"""Static checks of a model, or of a problem without one, before training, by tracing: nothing is computed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.spec import Spec, Tokens
from seqjax.data.stream import Stream
from seqjax.data.windows import window
from seqjax.errors import Error, dtype_shape
from seqjax.gradients.check_scan import check_step
from seqjax.gradients.dependence import depends_on
from seqjax.gradients.problem import Params, Problem
from seqjax.models.cell import Cell
from seqjax.models.model import Model, ModelProblem
from seqjax.plugin.author import calling
from seqjax.plugin.registry import name_of


def check_model(model: Model, spec: Spec) -> None:
    """Checks the results of one `init`, `init_state`, `step` and `unroll`.

    Raises:
        Error: a method raises another exception; the parameters are not a nested dict of float arrays; a step changes
            the structure, a shape or a dtype of the state; the output does not have the shape that `spec` needs.
    """
    name = f"model {name_of(model)}"
    with calling(model, "init", f"It is called as init(key, spec), with spec = {spec}"):
        params = jax.eval_shape(lambda: model.init(jax.random.key(0), spec))
    for keys, _ in jax.tree_util.tree_leaves_with_path(params):
        if not all(isinstance(key, jax.tree_util.DictKey) and "/" not in str(key.key) for key in keys):
            raise Error(f"{name}: init: parameter {keys}: parameters are a nested dict of names without '/'")
    for path, leaf in _leaves(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise Error(f"{name}: init: parameter {path} is {leaf.dtype}; parameters are float arrays")
    check_steps(model, spec, params)


def check_steps(model: Model, spec: Spec, params: Params) -> None:
    """Checks the results of one `init_state`, `step` and `unroll`, for parameters or their shapes and dtypes.

    Raises:
        Error: see `check_model`.
    """
    name = f"model {name_of(model)}"
    if isinstance(model, Cell):
        check_cell(model, jnp.result_type(float))
    x = _input(spec)
    what = f"It is called as step(params, state, x), for one sequence, with x = {dtype_shape(x)}"
    for key in (jax.random.key(0), None):  # a random model has another state if there is no key
        with calling(
            model, "init_state", f"It is called as init_state(params, spec, {'None' if key is None else 'key'})"
        ):
            state = jax.eval_shape(lambda params, key=key: _arrays(model.init_state(params, spec, key), name), params)
        with calling(model, "step", what):
            stepped = jax.eval_shape(model.step, params, state, x)
        new, output = _pair(stepped, f"{name}: step")
        _check_state(state, new, f"{name}: step")
        _check_output(output, (spec.targets.width,), f"{name}: step")
    if type(model).unroll is Model.unroll:
        return
    rows, xs = (_stacked(tree, leading) for tree, leading in ((state, (2,)), (x, (3, 2))))
    with calling(model, "unroll", f"It is called as unroll(params, state, xs, edge_weights), xs = {dtype_shape(xs)}"):
        unrolled = jax.eval_shape(model.unroll, params, rows, xs, None)
    new, outputs = _pair(unrolled, f"{name}: unroll")
    _check_state(rows, new, f"{name}: unroll")
    _check_output(outputs, (3, 2, spec.targets.width), f"{name}: unroll")


def check_cell(model: Cell, dtype: Any) -> None:
    """Checks the results of `init_cell` and of one `cell`, for any leading axes.

    Raises:
        Error: a method raises another exception; `init_cell` does not return a dict of float[..., hidden]; `cell` does
            not return a `State` of float[..., hidden].
    """
    name, width = f"model {name_of(model)}", model.blocks * model.hidden
    own = _own_params(model, name)
    names = "".join(f", {name}" for name in own)
    for leading in ((), (2,), (3, 2)):
        u = jax.ShapeDtypeStruct((*leading, width), dtype)
        entry = jax.ShapeDtypeStruct((*leading, model.hidden), dtype)
        state = model.State(*[entry] * len(model.State._fields))
        what = f"u and v are {dtype_shape(u)}, blocks x hidden = {model.blocks} x {model.hidden} numbers"
        call = f"cell(u, v, state{names}) is called with arrays of any leading axes"
        advice = (
            f"{call}; here {what}, and the fields of the state {dtype_shape(entry)}. Set the class attribute blocks "
            "where it splits u + v"
        )
        with calling(model, "cell", advice):
            new = jax.eval_shape(lambda u, state, own: model.cell(u, u, state, **own), u, state, own)
        state_name = model.State.__name__
        if not isinstance(new, model.State):
            found = dtype_shape(new)
            raise Error(
                f"{name}: cell returned {found}, and must return its State, {state_name}, such as "
                f"self.State({', '.join(f'{field}={field}' for field in model.State._fields)})"
            )
        for field, leaf in zip(model.State._fields, new, strict=True):
            if (getattr(leaf, "shape", None), getattr(leaf, "dtype", None)) != (entry.shape, entry.dtype):
                raise Error(
                    f"{name}: cell returned {state_name} with {field} = {dtype_shape(leaf)}, and must return "
                    f"{dtype_shape(entry)}, since {what}"
                )


def _own_params(model: Cell, name: str) -> Params:
    """The shapes and dtypes of the parameters that `cell` reads."""
    with calling(model, "init_cell", "It is called as init_cell(key)"):
        own = jax.eval_shape(model.init_cell, jax.random.key(0))
    expected = f"a dict of float[{model.hidden}], one number for each unit, such as {{'w': jnp.zeros(self.hidden)}}"
    if not isinstance(own, dict):
        raise Error(f"{name}: init_cell returned {dtype_shape(own)}, and must return {expected}")
    for key, leaf in own.items():
        if not str(key).isidentifier() or getattr(leaf, "shape", ())[-1:] != (model.hidden,):
            raise Error(f"{name}: init_cell returned {key!r} = {dtype_shape(leaf)}, and must return {expected}")
    return own


def _arrays(state: Any, name: str) -> Any:
    """The state, whose leaves must be arrays."""
    for path, leaf in _leaves(state):
        if not isinstance(leaf, jax.Array | np.ndarray):
            raise Error(
                f"{name}: init_state: the state{path} is {leaf!r:.60}, and must be an array, such as jnp.asarray(0)"
            )
    return state


def _pair(result: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise Error(f"{what} returned {dtype_shape(result)}, and must return (new state, output)")
    return result


def _check_state(state: Any, new: Any, what: str) -> None:
    before, after = dict(_leaves(state)), dict(_leaves(new))
    if str(jax.tree.structure(state)) != str(jax.tree.structure(new)):
        raise Error(
            f"{what}: the state goes in as {list(before) or 'no array'} and comes out as {list(after) or 'no array'}"
        )
    for path, leaf in before.items():
        if (leaf.shape, leaf.dtype) != (after[path].shape, after[path].dtype):
            raise Error(
                f"{what}: the state{path} goes in as {dtype_shape(leaf)}, comes out as {dtype_shape(after[path])}"
            )


def _check_output(output: Any, shape: tuple[int, ...], what: str) -> None:
    if getattr(output, "shape", None) != shape:
        raise Error(f"{what}: the output is {dtype_shape(output)}, and not of shape {shape}")


def _stacked(tree: Any, leading: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((*leading, *a.shape), a.dtype), tree)


def check_bare_problem(problem: Problem, params: Params, state: Any, stream: Stream, starts: Any) -> None:
    """Checks one step of a problem without a model on a stream. The step of a model is checked by `check_model`.

    Args:
        problem: the problem.
        params: its parameters.
        state: leaves [B, ...], or their shapes and dtypes.
        stream: the data.
        starts: int[B], where the first window of each row starts.

    Raises:
        Error: see `seqjax.gradients.check_scan.check_step`.
    """
    if not isinstance(problem, ModelProblem):
        xs = jax.eval_shape(lambda: window(stream, starts, 1))
        check_step(problem, params, state, xs)


def is_recurrent(model: Model, spec: Spec) -> bool:
    """Whether the state depends on the parameters, so that a gradient flows through time.

    The state of an MLP, which holds inputs alone, does not.
    """
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), spec))
    x = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), _input(spec))

    def states(params):
        state = model.init_state(params, spec)
        return state, model.step(params, jax.lax.stop_gradient(state), x)[0]

    return any(depends_on(states, params))


def _input(spec: Spec) -> jax.ShapeDtypeStruct:
    """The shape and dtype of one step's input."""
    is_ids = isinstance(spec.inputs, Tokens)
    return jax.ShapeDtypeStruct(() if is_ids else (spec.inputs.width,), jnp.int32 if is_ids else jnp.result_type(float))


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(keys), leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)]
