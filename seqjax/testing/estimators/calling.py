"""Calls of an estimator: with the arrays of its library, on any steps of a scan."""

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.array_files.arrays import is_key
from seqjax.errors import Error, nearest
from seqjax.testing.quick_jit import quick_jit

Arrays = Literal["jax", "numpy", "torch"]
"""The library whose arrays an estimator takes."""


NOT_JAX = (
    "the function was traced by JAX. If it is written in NumPy or PyTorch, give arrays='numpy' or arrays='torch'; if "
    "it is a Python loop with JAX that cannot be traced, traceable=False"
)


class Estimator(NamedTuple):
    """A function that returns a gradient, and how it is called.

    Args:
        function: the function.
        of: "window" or "history".
        arrays: the library whose arrays it takes.
        traceable: whether JAX can trace it.
    """

    function: Callable
    of: str
    arrays: Arrays = "jax"
    traceable: bool = True

    @property
    def name(self) -> str:
        """Code for it, or "estimator" if it has no name."""
        name = getattr(self.function, "__name__", "<lambda>")
        return "estimator" if "<" in name else name

    def __call__(
        self, step: Callable, params: Any, state: Any, xs: Any, key: jax.Array, memory: Any, wanted: Any
    ) -> tuple[Any, Any, Any]:
        """Loss, gradient and memory of one call.

        Args:
            step: the step of one sequence.
            params: the parameters.
            state: the state in which the window starts.
            xs: what its steps read.
            key: a JAX key. A function of NumPy or PyTorch gets a whole number in its place.
            memory: what the call before returned; None at the first call.
            wanted: a tree like the gradient.

        Raises:
            Error: it returns something else.
        """
        convert: Any = {"jax": jnp.array, "numpy": _numpy, "torch": _torch}[self.arrays]
        seed = key if self.arrays == "jax" else int(jax.random.bits(key, dtype=jnp.uint32))
        # Copies: the function may write into what it is given.
        arguments = step, *jax.tree.map(convert, (params, state, xs)), seed
        arguments += () if self.of == "window" else (memory,)
        _check_signature(self.function, arguments)
        result = self.function(*arguments)
        form = "(loss, gradient)" if self.of == "window" else "(loss, gradient, memory)"
        if not isinstance(result, tuple) or len(result) != 2 + (self.of == "history"):
            returned = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
            raise Error(f"the function returned {returned}, and must return {form}")
        loss, grads, *left = result
        if self.arrays == "torch":
            loss, grads = jax.tree.map(_from_torch, (loss, grads))
        grads = aligned(grads, wanted)
        # A copy, since the function may go on to use its arrays for the next gradient.
        return loss, grads if self.traceable else jax.tree.map(np.array, grads), left[0] if left else None


def by_step(make: Callable[[Any, Any], Any]) -> Callable:
    """An estimator from an object that learns step by step, for `check_estimator` and `compare_estimator`.

    >>> import numpy as np
    >>> import seqjax as sj
    >>> class Trace:  # s = w s + x, with the loss s
    ...     def __init__(self, w, s):
    ...         self.w, self.s, self.M = w, s, 0.0
    ...     def update(self, x):
    ...         self.M = self.w * self.M + self.s
    ...         self.s = self.w * self.s + x
    ...         return self.s, self.M
    >>> def step(w, s, x):
    ...     s = w * s + x
    ...     return s, s
    >>> scan = step, 0.9, 1.0, [np.ones(5), np.ones(5)]
    >>> mine = sj.testing.by_step(Trace)
    >>> table = sj.testing.check_estimator(mine, claim="exact", of="history", scan=scan, arrays="numpy")
    >>> set(table["passed"])
    {'yes'}

    Args:
        make: (params, state) -> a new object, at the start of a window, or with of="history" of the first window. Its
            method `update(x)` takes what one step reads, and returns the loss of this step and its gradient.

    Returns:
        The estimator, which cannot be traced by JAX: give arrays="numpy" or "torch", or traceable=False.
    """

    def estimator(step, params, state, xs, key, *memory):
        learner = make(params, state) if not memory or memory[0] is None else memory[0]
        loss, grads = 0.0, None
        for t in range(len(jax.tree.leaves(xs)[0])):
            result = learner.update(jax.tree.map(lambda a, t=t: a[t], xs))
            if not isinstance(result, tuple) or len(result) != 2:
                raise Error(f"by_step: update returned {type(result).__name__}, and must return (loss, gradient)")
            loss = loss + result[0]
            # New arrays, since the object may go on to use its own for the next gradient.
            grads = jax.tree.map(lambda a: a + 0, result[1]) if t == 0 else jax.tree.map(operator.add, grads, result[1])
        return (loss, grads, learner) if memory else (loss, grads)

    estimator.__name__ = f"sj.testing.by_step({getattr(make, '__name__', 'make')})"
    return estimator


def all_calls(
    estimator: Estimator, scan: Any, states: Sequence[Any], wanted: Sequence[Any], keys: jax.Array
) -> tuple[np.ndarray, list[Any]]:
    """The losses [N, W] of all windows and the gradients of each window, leaves [N, ...], of N keys.

    Args:
        estimator: the estimator.
        scan: the scan.
        states: the state that enters each window.
        wanted: for each window a tree like its gradient.
        keys: N keys.
    """

    def one(key):
        losses, grads, memory = [], [], None
        for w, (state, xs, like) in enumerate(zip(states, scan.windows, wanted, strict=True)):
            each = jax.random.fold_in(key, w)
            try:
                loss, gradient, memory = estimator(scan.step, scan.params, state, xs, each, memory, like)
            except Exception as fault:
                fault.add_note(f"raised in the call of the function on window {w}")
                if estimator.traceable:
                    fault.add_note(NOT_JAX)
                raise
            losses.append(loss)
            grads.append(gradient)
        return losses, grads

    if estimator.traceable:
        try:
            losses, grads = quick_jit(lambda keys: jax.lax.map(one, keys, batch_size=256))(keys)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as fault:
            raise Error(f"the function cannot be traced by JAX: {str(fault).splitlines()[0]}\n{NOT_JAX}") from fault
    else:
        losses, grads = jax.tree.map(lambda *a: np.stack(a), *[one(key) for key in keys])
    return np.stack(losses, -1), jax.device_get(grads)


def _check_signature(function: Callable, arguments: Sequence[Any]) -> None:
    """Checks that a function takes the arguments of an estimator.

    Raises:
        Error: it takes others.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions that are written in C have none
        return
    try:
        signature.bind(*arguments)
    except TypeError as fault:
        names = ("step", "params", "state", "xs", "key", "memory")[: len(arguments)]
        raise Error(f"the function is called with ({', '.join(names)}), and has the arguments {signature}") from fault


def aligned(got: Any, wanted: Any, at: str = "") -> Any:
    """The gradient in the containers of the parameters.

    Lists and tuples may stand for each other, None for zeros, and a dict may lack entries: they are not compared.

    Raises:
        Error: a shape differs, or there is an entry that the parameters do not have.
    """
    if got is None:
        return jax.tree.map(lambda a: np.zeros(np.shape(a)), wanted)
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        if unknown := [name for name in got if name not in wanted]:
            raise Error(
                f"the gradient has an entry {at}[{unknown[0]!r}], which the parameters do not have"
                + nearest(unknown[0], map(str, wanted))
            )
        if not got:
            raise Error(f"the gradient{at and ' at ' + at} is an empty dict")
        return {name: aligned(got[name], wanted[name], f"{at}[{name!r}]") for name in wanted if name in got}
    if isinstance(wanted, Sequence) and isinstance(got, Sequence) and len(got) == len(wanted):
        return _same(wanted, [aligned(g, w, f"{at}[{i}]") for i, (g, w) in enumerate(zip(got, wanted, strict=True))])
    returned, shapes = (jax.tree.map(np.shape, tree) for tree in (got, wanted))
    if returned != shapes:
        where = f" at {at}" if at else ""
        raise Error(f"the gradient has the shapes {returned}{where}, and must have {shapes}")
    return got


def like_gradient(wanted: Any, got: Any) -> Any:
    """The part of a tree that an aligned gradient has."""
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        return {name: like_gradient(wanted[name], got[name]) for name in got}
    if isinstance(wanted, Sequence) and isinstance(got, Sequence):
        return _same(wanted, [like_gradient(w, g) for w, g in zip(wanted, got, strict=True)])
    return wanted


def _same(sequence: Any, parts: list[Any]) -> Any:
    """A list, a tuple or a named tuple with other entries."""
    return type(sequence)(*parts) if hasattr(sequence, "_fields") else type(sequence)(parts)


def _numpy(a: Any) -> Any:
    return np.array(jax.random.key_data(a) if is_key(a) else a)


def _torch(a: Any) -> Any:
    try:
        import torch  # type: ignore[import-not-found]
    except ImportError as fault:
        raise Error("arrays='torch' needs PyTorch: pip install torch") from fault
    return torch.tensor(_numpy(a))


def _from_torch(a: Any) -> Any:
    return a.detach().cpu().numpy() if hasattr(a, "detach") else a
