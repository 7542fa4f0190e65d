"""Static checks of a model, or of a problem without one, before training, by tracing: nothing is computed."""

from typing import Any

import jax
import jax.numpy as jnp

from seqjax.data.spec import Spec, Tokens
from seqjax.data.stream import Stream
from seqjax.data.windows import window
from seqjax.errors import Error, dtype_shape
from seqjax.gradients.check_scan import check_step
from seqjax.gradients.dependence import depends_on
from seqjax.gradients.problem import Params, Problem
from seqjax.models.model import Model, ModelProblem


def check_model(model: Model, spec: Spec) -> None:
    """Checks the results of one `init`, `init_state` and `step`.

    Raises:
        Error: the parameters are not a nested dict of float arrays; a step changes the structure, a shape or a dtype of
            the state; the output does not have the shape that `spec` needs.
    """
    name = type(model).__name__
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), spec))
    for keys, _ in jax.tree_util.tree_leaves_with_path(params):
        if not all(isinstance(key, jax.tree_util.DictKey) and "/" not in str(key.key) for key in keys):
            raise Error(f"model {name}: init: parameter {keys}: parameters are a nested dict of names without '/'")
    for path, leaf in _leaves(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise Error(f"model {name}: init: parameter {path} is {leaf.dtype}; parameters are float arrays")
    state = jax.eval_shape(lambda params: model.init_state(params, spec), params)
    new, output = jax.eval_shape(model.step, params, state, _input(spec))
    before, after = dict(_leaves(state)), dict(_leaves(new))
    if str(jax.tree.structure(state)) != str(jax.tree.structure(new)):
        raise Error(f"model {name}: step: the state goes in as {list(before)} and comes out as {list(after)}")
    for path, leaf in before.items():
        if (leaf.shape, leaf.dtype) != (after[path].shape, after[path].dtype):
            raise Error(
                f"model {name}: step: the state{path} goes in as {dtype_shape(leaf)}, comes out as "
                f"{dtype_shape(after[path])}"
            )
    if getattr(output, "shape", None) != (spec.targets.width,):
        raise Error(
            f"model {name}: step: the output is {dtype_shape(output)}, and not of shape ({spec.targets.width},)"
        )


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
