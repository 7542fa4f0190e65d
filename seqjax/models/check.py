"""Checks a model, or a problem without a model, before training. It is only traced: nothing is computed."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.spec import Spec
from seqjax.data.stream import Stream
from seqjax.data.windows import window
from seqjax.errors import Error, dtype_shape
from seqjax.gradients.calls.check_scan import check_step
from seqjax.gradients.contract.problem import Params, Problem
from seqjax.gradients.steps.dependence import depends_on
from seqjax.models.check_cell import check_layer
from seqjax.models.layered import Layered
from seqjax.models.model import Model, ModelProblem
from seqjax.plugin.config import describe
from seqjax.plugin.registry import name_of


def check_model(model: Model, spec: Spec) -> None:
    """Checks the results of one `init`, `init_state`, `step` and `unroll`.

    Raises:
        Error: a method raises another exception; the parameters are not a nested dict of float arrays; a step changes
            the structure, a shape or a dtype of the state; the output does not have the shape that `spec` needs.
    """
    name = f"model {name_of(model)}"
    if isinstance(model, Layered):
        check_layer(model)  # first, since `init` calls its methods
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), spec))
    for keys, _ in jax.tree_util.tree_leaves_with_path(params):
        if not all(isinstance(key, jax.tree_util.DictKey) and "/" not in str(key.key) for key in keys):
            raise Error(f"{name}: init: parameter {keys}: parameters are a nested dict of names without '/'")
    for path, leaf in _leaves(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise Error(f"{name}: init: parameter {path} is {leaf.dtype}; parameters are float arrays")
    check_steps(model, spec, params)


def misfits(given: Params, own: Params) -> dict[str, str]:
    """The parameters of a model that are missing from the given ones, or differ from them in shape or dtype.

    Args:
        given: the parameters that were given.
        own: the parameters of the model, or their shapes and dtypes.

    Returns:
        Name, such as `layer_0/W_xh` -> what is given and what is needed, in words.
    """
    present, needed = (
        {
            jax.tree_util.keystr(keys, simple=True, separator="/"): dtype_shape(leaf)
            for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (given, own)
    )
    return {
        name: f"it has {present.get(name, 'nothing')}, and needs {needs}"
        for name, needs in needed.items()
        if present.get(name) != needs
    }


@contextlib.contextmanager
def fitting(problem: Problem, params: Params) -> Iterator[None]:
    """Explains an exception that is raised with these parameters, if they do not fit the problem's model.

    They are compared only after an exception, because dtypes that `init` does not return may also work.

    Raises:
        Error: an exception was raised, and the parameters do not fit the model. Otherwise it is raised unchanged.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError) as fault:
        if not isinstance(problem, ModelProblem):
            raise
        own = None
        with contextlib.suppress(Exception):  # a model of another library does not make parameters
            own = jax.eval_shape(lambda: problem.init(jax.random.key(0)))
        wrong, spec = misfits(params, own), problem.spec
        if not wrong:
            raise
        raise Error(
            f"the parameters do not fit the model {describe(problem.model)} with {spec.inputs} as inputs and "
            f"{spec.targets} as targets\nPass parameters of this model, such as run.params of its run:",
            problems=[f"{name}: {why}" for name, why in wrong.items()],
        ) from fault


def check_steps(model: Model, spec: Spec, params: Params) -> None:
    """Checks the results of one `init_state`, `step` and `unroll`, for parameters or their shapes and dtypes.

    Raises:
        Error: see `check_model`.
    """
    name = f"model {name_of(model)}"
    x = spec.inputs.like
    for key in (jax.random.key(0), None):  # a random model has another state if there is no key
        state = jax.eval_shape(lambda params, key=key: _arrays(model.init_state(params, spec, key), name), params)
        stepped = jax.eval_shape(model.step, params, state, x)
        new, output = _pair(stepped, f"{name}: step")
        _check_state(state, new, f"{name}: step")
        _check_output(output, (spec.targets.width,), f"{name}: step", f", since the targets are {spec.targets}")
    if model.unroll is None:
        return
    rows, xs = (_stacked(tree, leading) for tree, leading in ((state, (2,)), (x, (3, 2))))
    unrolled = jax.eval_shape(model.unroll, params, rows, xs, None)
    new, outputs = _pair(unrolled, f"{name}: unroll")
    _check_state(rows, new, f"{name}: unroll")
    _check_output(outputs, (3, 2, spec.targets.width), f"{name}: unroll")


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


def _check_output(output: Any, shape: tuple[int, ...], what: str, why: str = "") -> None:
    if getattr(output, "shape", None) != shape:
        raise Error(f"{what}: the output is {dtype_shape(output)}, and not of shape {shape}{why}")


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
        Error: see `seqjax.gradients.calls.check_scan.check_step`.
    """
    if not isinstance(problem, ModelProblem):
        xs = jax.eval_shape(lambda: window(stream, starts, 1))
        check_step(problem, params, state, xs)


def is_recurrent(model: Model, spec: Spec, params: Params) -> bool:
    """Whether the state depends on the parameters, so that a gradient flows through time.

    The state of an MLP, which only holds inputs, does not.

    Args:
        model: the model.
        spec: its inputs and outputs.
        params: its parameters, or their shapes and dtypes.
    """
    x = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), spec.inputs.like)

    def states(params):
        state = model.init_state(params, spec)
        return state, model.step(params, jax.lax.stop_gradient(state), x)[0]

    return any(depends_on(states, params))


def output_and_target_like(spec: Spec) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """The shapes and dtypes of one step's output and target, which losses and metrics read."""
    return jax.ShapeDtypeStruct((spec.targets.width,), jnp.result_type(float)), spec.targets.like


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(keys), leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)]
