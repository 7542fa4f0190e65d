"""The derivatives of every step of a scan, and the gradient by the chain rule from any step to any other one."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from seqjax.array_files.arrays import is_key
from seqjax.gradients.steps.floats import ravel_float
from seqjax.testing.estimators.scans import Scan
from seqjax.testing.quick_jit import quick_jit

EXACT = 1e-9
"""The relative error below which numbers are taken for equal."""


class Slice(NamedTuple):
    """Steps first <= t < last of a path."""

    first: int
    last: int


class Leaf(NamedTuple):
    """A leaf in a vector.

    Args:
        name: its path, such as "['w']".
        at: its numbers in the vector.
        shape: its shape.
    """

    name: str
    at: slice
    shape: tuple[int, ...]


class Chain(NamedTuple):
    """The derivatives of N steps of B rows; S and P are the numbers in the float leaves of the state and parameters.

    Args:
        J: the derivative of the new state by the state.
        I: the derivative of the new state by the parameters.
        a: the derivative of the loss by the state.
        d: the derivative of the loss by the parameters.
    """

    J: Float[np.ndarray, "B N S S"]
    I: Float[np.ndarray, "B N S P"]
    a: Float[np.ndarray, "B N S"]
    d: Float[np.ndarray, "B N P"]

    def of_rows(self, rows: Sequence[int]) -> "Chain":
        """The derivatives of some rows."""
        return Chain(*(each[list(rows)] for each in self))

    def gradient(self, part: Slice) -> Float[np.ndarray, " P"]:
        """The gradient of the sum of the losses of some steps; the state that enters the first of them is a constant.

        M_t = J_t M_{t-1} + I_t, and the loss of step t adds a_t M_{t-1} + d_t.
        """
        M = np.zeros_like(self.I[:, 0])
        grads = np.zeros(self.I.shape[-1])
        for t in range(*part):
            grads += np.einsum("bs,bsp->p", self.a[:, t], M) + self.d[:, t].sum(0)
            M = self.J[:, t] @ M + self.I[:, t]
        return grads


class Path(NamedTuple):
    """N consecutive steps of a scan, on which the calls of an estimator are compared.

    Args:
        scan: the scan.
        xs: what the steps read, leaves [N, B, ...].
        states: the state before each step and after the last one, leaves [N + 1, B, ...].
    """

    scan: Scan
    xs: Any
    states: Any

    @property
    def num_steps(self) -> int:
        """N."""
        return len(jax.tree.leaves(self.xs)[0])

    @property
    def before(self) -> Any:
        """The state before each step, leaves [N, B, ...]."""
        return jax.tree.map(lambda a: a[:-1], self.states)

    def part(self, part: Slice) -> "Path":
        """Some steps of the path."""
        states = jax.tree.map(lambda a: a[part.first : part.last + 1], self.states)
        return Path(self.scan, jax.tree.map(lambda a: a[slice(*part)], self.xs), states)

    def given(self, part: Slice, rows: Sequence[int]) -> tuple[Any, Any]:
        """The state and the inputs of some steps and rows, as an estimator gets them."""
        at: Any = np.array(rows) if self.scan.batched else 0
        state = jax.tree.map(lambda a: a[part.first][at], self.states)
        return state, jax.tree.map(lambda a: a[slice(*part)][:, at], self.xs)


def path_of(scan: Scan, windows: Sequence[Any], state: Any) -> Path:
    """The path through consecutive windows from a state."""
    xs = jax.tree.map(_joined, *windows)
    if not scan.batched:
        state, xs = jax.tree.map(lambda a: a[None], _on_host(state)), jax.tree.map(lambda a: a[:, None], xs)
    later = _on_host(_all_states(scan.step, scan.params, state, xs))
    states = jax.tree.map(lambda a, b: _joined(a[None], b), _on_host(state), later)
    return Path(scan, xs, states)


def _joined(*arrays):
    return np.concatenate([_on_host(a) for a in arrays]) if not is_key(arrays[0]) else jnp.concatenate(arrays)


def _on_host(tree):
    """The arrays as those of NumPy, whose parts are taken without a program for each; keys stay as they are."""
    return jax.tree.map(lambda a: a if is_key(a) else np.asarray(a), tree)


def states_of(scan: Scan) -> list[Any]:
    """The states that enter the windows of a scan."""
    states = path_of(scan, scan.windows, scan.state).states
    entering = [jax.tree.map(lambda a, w=w: a[w * scan.num_steps], states) for w in range(len(scan.windows))]
    return entering if scan.batched else [jax.tree.map(lambda a: a[0], each) for each in entering]


def derivatives(path: Path, columns: Any = slice(None)) -> Callable[[Any, Any], Chain]:
    """A function (states, xs) -> the derivatives of steps from these states, leaves [N, B, ...].

    Args:
        path: the path.
        columns: the numbers of the parameters by which steps are differentiated.
    """

    def at(states, xs):
        J, I, a, d = (np.asarray(each) for each in _all_derivatives(path.scan.step, path.scan.params, states, xs))
        return Chain(J, I[..., columns], a, d[..., columns])

    return at


# Compiled once for each step, since several parts of a scan are looked at.
@functools.partial(quick_jit, static_argnums=0)
def _all_states(step, params, state, xs):
    """The states after all steps, leaves [N, B, ...]."""

    def advance(state, x):
        new, _ = jax.vmap(step, (None, 0, 0))(params, state, x)
        return new, new

    return jax.lax.scan(advance, state, xs)[1]


@functools.partial(quick_jit, static_argnums=0)
def _all_derivatives(step, params, states, xs):
    flat_params, others, join_params = ravel_float(params)

    def one(state, x):
        flat, other_states, join_state = ravel_float(state)

        def on_vectors(params, s):
            new, loss = step(join_params(params, others), join_state(s, other_states), x)
            return ravel_float(new)[0], loss

        (I, J), (d, a) = jax.jacrev(on_vectors, (0, 1))(flat_params, flat)
        return J, I, a, d

    return [jnp.swapaxes(each, 0, 1) for each in jax.vmap(jax.vmap(one))(states, xs)]


def floats_of(tree: Any) -> list[np.ndarray]:
    """The float leaves of a tree, as arrays of NumPy."""
    return [np.asarray(a) for a in jax.tree.leaves(tree) if jnp.issubdtype(jnp.asarray(a).dtype, jnp.inexact)]


def vector(tree: Any) -> np.ndarray:
    """The float leaves of a tree as a vector of float64. `ravel_float` would compile a program for each shape."""
    return np.concatenate([np.zeros(0), *(np.ravel(a).astype(np.float64) for a in floats_of(tree))])


def leaves_of(tree: Any) -> list[Leaf]:
    """The float leaves of a tree in the order in which its vector has them."""
    found, first = [], 0
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.inexact):
            last = first + np.size(leaf)
            found.append(Leaf(jax.tree_util.keystr(path), slice(first, last), np.shape(leaf)))
            first = last
    return found
