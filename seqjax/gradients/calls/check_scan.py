"""Checks the arguments of a scan by tracing one step, before anything is computed."""

import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from seqjax.errors import Error, check_flags, check_whole, dtype_shape
from seqjax.gradients.calls.scan_problem import Differentiated
from seqjax.gradients.contract.problem import Params, Problem, State, as_problem
from seqjax.gradients.contract.resetting import read_resets, with_resets
from seqjax.gradients.contract.rows import as_row
from seqjax.gradients.steps.floats import combine, partition_float

Weights = Float[Array, "T B"] | Float[Array, " T"] | Literal["last"] | None


class CheckedScan(NamedTuple):
    """The arguments of a scan, checked. All leaves are arrays, except parameters that cannot be converted.

    Args:
        problem: the problem of the scan.
        params: the parameters.
        state: leaves [B, ...].
        xs: what the steps of `problem` read, leaves [T, B, ...]; at least one.
        weights: float[T, B].
    """

    problem: Problem
    params: Any
    state: Any
    xs: Any
    weights: Any


def read_scan(
    step_or_problem: Callable | Problem,
    params: Params,
    state: State,
    xs: PyTree,
    weights: Weights = None,
    *,
    length: int | None = None,
    has_aux: bool = False,
    batched: bool = False,
    reset: Bool[Array, "T ..."] | None = None,
    initial: State | None = None,
) -> CheckedScan:
    """Checks the arguments of a scan, as `estimate` takes them, for a function that differentiates params.

    The parameters that are returned are floats alone; the problem holds the others as constants. With resets, the
    problem and `xs` have them.

    Raises:
        Error: the arguments, or what the step returns for them, do not fit together.
    """
    problem = as_problem(step_or_problem)
    check_flags(has_aux=has_aux, batched=batched)
    check_any_float(params)
    scan = check_scan(problem, params, state, xs, weights, has_aux, batched, length)
    num_steps, num_rows = scan.weights.shape
    resets = read_resets(reset, initial, scan.state, num_steps, num_rows if batched else None)
    if has_aux or jax.tree.leaves(partition_float(params)[1]):
        floats = Differentiated(scan.problem, scan.params, scan.state, scan.xs, (0,), has_aux)
        scan = scan._replace(problem=floats.problem, params=floats.args)
    problem, xs = with_resets(scan.problem, lambda _: scan.state, scan.xs, resets)
    return scan._replace(problem=problem, xs=xs)


def check_scan(
    problem: Problem,
    params: Params,
    state: State,
    xs: PyTree,
    weights: Weights,
    has_aux: bool,
    batched: bool,
    length: int | None,
) -> CheckedScan:
    """Checks that a scan can be differentiated. One step is traced, and nothing is computed.

    Args:
        problem: its step is traced.
        params: the parameters.
        state: leaves [...], or with rows [B, ...].
        xs: leaves [T, ...], or with rows [T, B, ...]; a tree without leaves, such as None: the steps read nothing.
        weights: float[T], or with rows [T, B]; None: 1 / (T B); "last": 1 / B at the last step, else 0.
        has_aux: whether the step returns (new state, (loss, outputs)).
        batched: whether there are rows; otherwise the arguments are those of one sequence.
        length: T, if xs has no leaves; else None, or the T of the leaves.

    Returns:
        The arguments with an axis of rows. If the steps read nothing, then `xs` is a number for each step, and the
        problem is one whose step does not look at it.

    Raises:
        Error: a leaf of state or xs is not an array; no parameter is a float; T or B differ between leaves; `length` is
            no number of steps, or is not T, or is missing; the step raises an exception for these shapes, or does not
            return (new state, loss), with the state as it went in and the loss one number.
    """
    if length is not None:
        length = operator.index(length) if isinstance(length, jax.Array) else length
        check_whole(below_2_to=31, length=(length, 1))
    try:
        return _read_arrays(problem, params, state, xs, weights, has_aux, batched, length)
    except jax.errors.JAXTypeError:  # the step reads a value that is traced, as in `if x > 0`
        raise
    except (Error, TypeError, ValueError) as fault:
        other = problem, params, state, xs, weights, has_aux, not batched, length
        if isinstance(fault, Error) and not isinstance(fault, _ShapeError) and not _fits(*other):
            raise
        what = str(fault) if isinstance(fault, Error) else f"the step raises {type(fault).__name__}: {fault}"
        raise Error(f"{what}\n{_reading(state, xs, batched)}") from fault


class _ShapeError(Error):
    """Shapes differ, as they do where one of the arguments has rows and another one has not."""


def _fits(*args: Any) -> bool:
    """Whether the arguments of a scan fit together if they are read with, or without, an axis of rows."""
    try:
        _read_arrays(*args)
    except Exception:  # whatever the step raises
        return False
    return True


def _reading(state: State, xs: PyTree, batched: bool) -> str:
    """How the arguments of a scan are read, and how to pass them if they are meant the other way."""
    shapes = f"state is {_show(jax.tree.map(jnp.asarray, state))} and xs is {_show(jax.tree.map(jnp.asarray, xs))}"
    if batched:
        return f"{shapes}, read with batched=True as [B, ...] and [T, B, ...]; for one sequence leave batched=True out"
    rows = "if they have rows, [B, ...] and [T, B, ...], pass batched=True"
    return f"{shapes}, read as one sequence, [...] and [T, ...]; {rows}"


def _read_arrays(
    problem: Problem,
    params: Params,
    state: State,
    xs: PyTree,
    weights: Weights,
    has_aux: bool,
    batched: bool,
    length: int | None,
) -> CheckedScan:
    """`check_scan`, without the advice on rows in its errors."""
    if not batched:
        state, xs, weights = add_row_axis(state, xs, weights)
    params, state, xs = combine(*partition_float(params)), _arrays(state, "state"), _arrays(xs, "xs")
    if not jax.tree.leaves(xs):
        problem, xs = _without_inputs(problem, state, xs, batched, length)
    shapes = [leaf.shape for leaf in jax.tree.leaves(xs)]
    if min(map(len, shapes)) < 2:
        raise Error(f"with batched=True xs must have leaves [T, B, ...], found {shapes}")
    num_steps, num_rows = shapes[0][:2]
    if {shape[:2] for shape in shapes} != {(num_steps, num_rows)} or 0 in (num_steps, num_rows):
        if batched:
            raise _ShapeError(f"the leaves of xs must share T and B, at least 1 each; found {shapes}")
        raise Error(f"the leaves of xs must share T, at least 1; found {[(T, *rest) for T, _, *rest in shapes]}")
    if length not in (None, num_steps):
        raise Error(f"length = {length}, and the leaves of xs have T = {num_steps}: leave length out")
    for path, leaf in jax.tree.leaves_with_path(state):
        if leaf.shape[:1] != (num_rows,):
            name = jax.tree_util.keystr(path)
            raise _ShapeError(
                f"state{name} has shape {leaf.shape}, and xs has {num_rows} rows: state has leaves [B, ...]"
            )
    weights_TB = _weights(weights, num_steps, num_rows)
    after = check_step(problem, params, state, xs, has_aux)
    # A state of Python numbers takes the dtype that the step returns, as in `jax.lax.scan`.
    state = jax.tree.map(lambda a, new: a if a.dtype == new.dtype else a.astype(new.dtype), state, after)
    return CheckedScan(problem, params, state, xs, weights_TB)


def _without_inputs(
    problem: Problem, state: State, xs: PyTree, batched: bool, length: int | None
) -> tuple[Problem, Bool[Array, "T B"]]:
    """The problem of steps that read nothing, and an array in place of what they read.

    A strategy reads T and B from the leaves of xs. So there is one leaf, and the step gets `xs` in its place.

    Args:
        problem: its step reads `xs`, a tree without leaves, such as None.
        state: leaves [B, ...].
        xs: this tree.
        batched: whether there are rows; otherwise B is 1.
        length: T.
    """
    if length is None:
        raise Error(
            f"xs = {xs!r:.80} has no arrays, so that the number of steps is not known: pass it, such as length=100, if "
            "the step reads nothing"
        )
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    sizes = {shape[0] if shape else 0 for shape in shapes} if batched else {1}
    if len(sizes) != 1 or 0 in sizes:
        raise _ShapeError(f"without xs the leaves of state, [B, ...], must share B, at least 1; found {shapes}")

    def reading(function):
        return None if function is None else lambda params, state, _: function(params, state, xs)

    own = problem.changed(step=reading(problem.step), with_outputs=reading(problem.with_outputs), x_like=None)
    return own, jnp.asarray(np.zeros((length, *sizes), bool))


def _weights(weights: Any, num_steps: int, num_rows: int) -> Any:
    """The weights of the losses as an array."""
    if weights is None:
        # A numpy array is known during tracing, so that `scored_steps` sees that all losses count.
        return np.full((num_steps, num_rows), 1 / (num_steps * num_rows), jnp.zeros(()).dtype)
    if isinstance(weights, str):
        if weights != "last":
            raise Error(f'weights = {weights!r} must be "last", None, or float[T, B]')
        return jnp.zeros((num_steps, num_rows)).at[-1].set(1 / num_rows)
    weights = _real_weights(weights)
    if weights.shape != (num_steps, num_rows):
        raise _ShapeError(f"weights must be float[T, B] = [{num_steps}, {num_rows}], not {list(weights.shape)}")
    return weights


def _real_weights(weights: Any) -> jax.Array:
    """Weights that were given, as an array of real numbers."""
    try:
        array = jnp.asarray(weights)
    except (TypeError, ValueError) as fault:
        raise Error(f'weights = {weights!r:.80} must be "last", None, or float[T, B]') from fault
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise Error(f"weights must be real numbers, float[T, B], not {dtype_shape(array)}")
    return array


def _arrays(tree: PyTree, name: str) -> PyTree:
    """The tree with its leaves as arrays; an error names a leaf that is something else."""

    def leaf(path, value):
        try:
            return jnp.asarray(value)
        except TypeError:
            raise Error(
                f"{name}{jax.tree_util.keystr(path)} is a {type(value).__name__}, not an array. Pass arrays alone and "
                "close over the rest in the step"
            ) from None
        except OverflowError as fault:
            raise Error(f"{name}{jax.tree_util.keystr(path)} = {value!r:.80}: {fault}; pass a float") from fault

    return jax.tree.map_with_path(leaf, tree)


def check_params(params: Params) -> None:
    """Checks that all parameters, arrays or their shapes and dtypes, are floats.

    Raises:
        Error: one is not; the message names it.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        try:
            dtype = jnp.result_type(leaf)
        except TypeError as fault:
            raise Error(f"params{name} is a {type(leaf).__name__}, and must be an array of floats") from fault
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise Error(f"params{name} is {dtype}, which has no gradient: make it a float, or close over it")


def check_any_float(tree: PyTree, name: str = "params") -> None:
    """Checks that there is something that can be differentiated.

    Args:
        tree: the argument that is differentiated.
        name: its name.

    Raises:
        Error: it has no leaves, or none is a float.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        raise Error(f"{name} = {tree!r:.80} has no arrays, so that there is nothing to differentiate")
    if not jax.tree.leaves(partition_float(tree)[0]):
        dtypes = ", ".join(str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in leaves)
        raise Error(f"{name} has no floats, so that there is nothing to differentiate; found {dtypes:.200}")


def check_step(problem: Problem, params: Params, state: State, xs: PyTree, has_aux: bool = False) -> State:
    """Checks one step by tracing it, with clearer errors than `jax.lax.scan` raises.

    Args:
        problem: its step is traced.
        params: the parameters. Like `state` and `xs`, they are arrays, or only their shapes and dtypes.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].
        has_aux: whether the step returns (new state, (loss, outputs)).

    Returns:
        The shapes and dtypes of the state of one row after the step.

    Raises:
        Error: the step does not return (new state, loss), with the state as it went in and the loss one number.
    """
    # Objects that are no arrays, such as functions, cannot be traced.
    arrays = jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else None, params)
    others = jax.tree.map(lambda leaf: None if hasattr(leaf, "dtype") else leaf, params)

    # A new function for each call: JAX caches shapes by the function object, and a step may close over a value that has
    # changed since.
    def first_row(params, state, xs):
        s, x = jax.tree.map(lambda a: a[0], state), jax.tree.map(lambda a: a[0, 0], xs)
        return s, problem.step(combine(params, others), s, x)

    before, result = jax.eval_shape(first_row, arrays, state, xs)
    returns = "(new state, (loss, outputs))" if has_aux else "(new state, loss)"
    if not isinstance(result, tuple) or len(result) != 2:
        raise Error(f"a step must return {returns}, but this one returns {_show(result)}")
    after, loss = result
    if has_aux:
        if not isinstance(loss, tuple) or len(loss) != 2:
            raise Error(f"with has_aux=True a step must return {returns}, but this one returns {_show(result)}")
        loss, _ = loss
    is_swapped = _same_shapes(before, loss) and [a.shape for a in jax.tree.leaves(after)] == [()]
    hint = "; does it return (loss, state)? Return (state, loss)" if is_swapped else ""
    if not _same_structure(before, after):
        raise Error(f"the step takes the state {_show(before)} and returns the state {_show(after)}{hint}")
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        # JAX gives a state of weak type, such as one made of Python numbers, the dtype of the new state.
        if old.shape != new.shape or (old.dtype != new.dtype and not old.weak_type):
            name = f"state{jax.tree_util.keystr(path)}"
            what = f"{name} goes into the step as {_show(old)} and comes out as {_show(new)}"
            if old.shape != new.shape:
                raise _ShapeError(f"{what}{hint or ': keep its shape'}")
            raise Error(f"{what}{hint or f': keep its dtype, such as with .astype({name}.dtype)'}")
    if not isinstance(loss, jax.ShapeDtypeStruct) or loss.shape or not jnp.issubdtype(loss.dtype, jnp.floating):
        advice = "; does it return (loss, outputs)? Pass has_aux=True" if isinstance(loss, tuple) else ""
        if isinstance(loss, jax.ShapeDtypeStruct) and jnp.issubdtype(loss.dtype, jnp.complexfloating):
            advice = "; take its real part or its absolute value"
        is_array = isinstance(loss, jax.ShapeDtypeStruct) and loss.shape
        fault = _ShapeError if is_array else Error
        raise fault(f"a step's loss must be one number, float[], but this one is {_show(loss)}{advice}")
    return after


def _same_structure(one: Any, other: Any) -> bool:
    return bool(jax.tree.structure(one) == jax.tree.structure(other))  # type: ignore[operator]


def _same_shapes(one: Any, other: Any) -> bool:
    shapes = [[a.shape for a in jax.tree.leaves(tree)] for tree in (one, other)]
    return _same_structure(one, other) and shapes[0] == shapes[1]


def _show(tree: Any) -> str:
    """A tree with its leaves written as dtype[shape]."""
    return str(jax.tree.map(lambda a: _Text(dtype_shape(a)), tree))


class _Text(str):
    """A text whose `repr` has no quotation marks."""

    __repr__ = str.__str__


def add_row_axis(state: State, xs: PyTree, weights: Weights) -> tuple[State, PyTree, Weights]:
    """Turns the arguments of a scan of one sequence into the arguments of a scan with one row."""
    state, xs = _arrays(state, "state"), _arrays(xs, "xs")
    for path, leaf in jax.tree.leaves_with_path(xs):
        if not leaf.ndim:
            name = jax.tree_util.keystr(path)
            raise Error(
                f"xs{name} is a single number: what the steps read has an axis T; close over a constant instead"
            )
    if weights is not None and not isinstance(weights, str):
        weights = _real_weights(weights)
        if weights.ndim != 1:
            raise _ShapeError(f"weights must be float[T] for a single sequence, not of shape {list(weights.shape)}")
        weights = weights[:, None]
    return as_row(state), as_row(xs, axis=1), weights
