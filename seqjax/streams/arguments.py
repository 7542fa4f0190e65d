"""Checks of what a `Learner` is given for one step."""

import difflib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from seqjax.data.spec import Tokens, Values
from seqjax.errors import Error, counted, dtype_shape
from seqjax.gradients.contract.problem import Problem
from seqjax.models.model import ModelProblem


def check_not_donated(what: str, tree: PyTree) -> None:
    """Raises an `Error` that begins with `what` if an array of a tree was donated."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted():
            raise Error(
                f"{what} was passed to `update`, `gradients` or `apply` before, which donate it, so that its arrays "
                "are no longer there; use the state that was returned: state, metrics = learner.update(state, x, y)"
            )


def check_numbers(caller: str, tree: PyTree) -> None:
    """Raises an `Error` if a leaf is a text or another object that is no number and no array of numbers."""
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array) and np.asarray(leaf).dtype.kind in "OSTUMm":
            raise Error(f"{caller}: {leaf!r:.80} is neither a number nor an array of numbers")


def check_extra(caller: str, extra: dict[str, Any]) -> None:
    """Raises an `Error` if an argument of the optimizer looks like a mistyped `reset`, which optax would leave out."""
    for name in extra:
        if name != "reset" and difflib.get_close_matches(name, ["reset"], cutoff=0.85):
            raise Error(f"{caller}: there is no argument {name}; do you mean reset?")


def check_gradients(caller: str, grads: PyTree, params: PyTree) -> None:
    """Checks that gradients are like the parameters, or have leading axes more.

    Raises:
        Error: they are not.
    """
    wanted = "pass what gradients returned, a tree like the parameters, whose leaves may have leading axes more"
    if jax.tree.structure(grads) != jax.tree.structure(params):  # type: ignore[operator]
        raise Error(f"{caller}: the gradients are {jax.tree.structure(grads)!s:.200}; {wanted}")
    for (keys, param), grad in zip(jax.tree.leaves_with_path(params), jax.tree.leaves(grads), strict=True):
        if grad.shape[max(grad.ndim - param.ndim, 0) :] != param.shape:
            found = f"the gradient of params{jax.tree_util.keystr(keys)} is {dtype_shape(grad)}"
            raise Error(f"{caller}: {found}, and the parameter is {dtype_shape(param)}; {wanted}")


def check_sample(caller: str, problem: Problem, x: tuple, leading: tuple[int, ...], has_target: bool) -> None:
    """Checks what one step reads.

    Args:
        caller: whose arguments they are.
        problem: the problem.
        x: the arguments.
        leading: (B,), or () without rows.
        has_target: whether a model is given a target, too.
    """
    if not isinstance(problem, ModelProblem):
        if not x:
            raise Error(f"{caller}: pass what the step reads after the state")
        if wrong := [leaf for leaf in jax.tree.leaves(x) if leaf.shape[: len(leading)] != leading]:
            raise Error(
                f"{caller}: with rows={leading[0]}, all arrays that the step reads have a first axis of "
                f"{leading[0]}, but one is {dtype_shape(wrong[0])}"
            )
        return
    if len(x) != 1 + has_target:
        reads = "an input and a target: state, x, y" if has_target else "an input: state, x"
        raise Error(f"{caller}: a model reads {reads}, not {counted(len(x), 'argument')} after the state")
    spec = problem.spec
    _check_array(caller, "x", x[0], spec.inputs, leading)
    if has_target and problem.loss is None:  # a loss of the user's own may read any target
        _check_array(caller, "y", x[1], spec.targets, leading)


def check_ids(caller: str, name: str, ids: Any, size: int) -> None:
    """Checks ids that are on the host: they are from 0 to `size` - 1. The shape and the dtype are checked elsewhere."""
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu" and ids.size:
        # As unsigned numbers, negative ones are the largest, so that one pass over the array finds all.
        at = ids.view(f"u{ids.itemsize}").argmax()
        ids = ids.item(at)
    if isinstance(ids, (int, np.integer)) and not 0 <= ids < size:
        raise Error(f"{caller}: {name} has the id {ids}, and the ids are from 0 to {size - 1}")


def _check_array(caller: str, name: str, value: Any, kind: Tokens | Values, leading: tuple[int, ...]) -> None:
    """Checks the input or the target of one step.

    Raises:
        Error: it is no array, or of another dtype or shape than `kind` says.
    """
    is_token = isinstance(kind, Tokens)
    shape = leading if isinstance(kind, Tokens) else (*leading, kind.dim)
    dtype = getattr(value, "dtype", None)
    fits = dtype is not None and jnp.issubdtype(dtype, jnp.integer if is_token else jnp.floating)
    if not fits or value.shape != shape:
        wanted = f"{'int' if is_token else 'float'}{list(shape)}"
        raise Error(f"{caller}: {name} must be {wanted} for {kind}, not {dtype_shape(value)}")
