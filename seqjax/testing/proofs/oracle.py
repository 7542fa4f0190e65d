"""Gradients by brute force: the chain rule in a Python loop over rows, windows and time steps.

It uses no scan, none of the edge weights of `seqjax.gradients`, and no strategy.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.calls.scan_problem import Arguments
from seqjax.gradients.contract.problem import Problem
from seqjax.testing.proofs.calls import row_of
from seqjax.testing.proofs.cases import RESET, B, Case, T, case
from seqjax.testing.quick_jit import quick_jit


class Truth(NamedTuple):
    """The true values.

    Args:
        loss: the weighted sum of the losses.
        grads: its gradient.
        state: the state after the last step.
    """

    loss: Any
    grads: Any
    state: Any


def truth(name: str, first: int, last: int, edge_weights: Any = None, num_steps: int = T) -> Truth:
    """The sum of `truth_of_rows` over all rows, with the states stacked."""
    rows = truth_of_rows(name, first, last, edge_weights, num_steps)
    loss, grads = jax.tree.map(lambda *a: sum(a), *[(row.loss, row.grads) for row in rows])
    return Truth(loss, grads, _stack([row.state for row in rows]))


def truth_of_rows(name: str, first: int, last: int, edge_weights: Any = None, num_steps: int = T) -> list[Truth]:
    """The gradient of windows first <= w < last, through all of them, for each row.

    Args:
        name: the problem.
        first: the first window. The state that enters it is a constant.
        last: the window after the last one.
        edge_weights: float[T] or float[T, B], which multiply the tangent that enters each step of every window.
        num_steps: T.
    """
    edge_weights = np.ones((num_steps, 1)) if edge_weights is None else np.reshape(edge_weights, (num_steps, -1))
    edge_weights = np.broadcast_to(edge_weights, (num_steps, B))
    return _truth(name, first, last, tuple(map(tuple, edge_weights.tolist())), jax.config.read("jax_enable_x64"))


def truth_of_scan(step: Callable, params: Any, state: Any, windows: Sequence[Any]) -> Truth:
    """The gradient of consecutive windows of any scan of one sequence, through all of them.

    Args:
        step: (params, state, x) -> (new state, loss).
        params: the parameters.
        state: the state that enters the first window, a constant.
        windows: what the steps of each window read, leaves [T, ...].
    """
    return _scan(step, params, state, windows)[0]


def arguments_of_scan(step: Callable, params: Any, state: Any, xs: Any) -> Arguments:
    """The gradients by all arguments of one window of any scan of one sequence; None at leaves that are no floats."""
    return _scan(step, params, state, [xs])[1]


def _scan(step, params, state, windows):
    """The true values of consecutive windows, and the gradients of their arguments."""
    c = Case(Problem(step), params, state, [], step, None)
    windows = [jax.device_get(xs) for xs in windows]
    num_steps = len(jax.tree.leaves(windows[0])[0])
    ones = np.ones(num_steps)
    return _row(c, state, [(xs, ones) for xs in windows], [False] * len(windows), ones)


def arguments_of_rows(name: str, edge_weights: Any = None, num_steps: int = T) -> list[Arguments]:
    """The gradients of all arguments of the first window, for each row; no row is reset.

    Args:
        name: the problem.
        edge_weights: float[T], which multiply the tangent that enters each step.
        num_steps: T.

    Returns:
        The gradients of the parameters, of the state in which the row starts, leaves [...], and of what its steps read,
        leaves [T, ...], with None in place of leaves that are no floats.
    """
    c = case(name, num_steps)
    edge_weights = [1.0] * num_steps if edge_weights is None else edge_weights
    window, rows = jax.device_get((c.windows[0].xs, c.windows[0].weights)), []
    for b in range(B):
        row = jax.tree.map(lambda a, b=b: a[:, b], window)
        rows.append(_row(c, row_of(c.state, b), [row], [False], edge_weights)[1])
    return rows


@functools.cache
def _truth(name, first, last, edge_weights, x64):
    # `x64` is only a part of the cache key: it changes the dtypes of the arrays.
    num_steps = len(edge_weights)
    c = case(name, num_steps)
    state = c.state if first == 0 else truth(name, 0, first, num_steps=num_steps).state
    windows = [jax.device_get((batch.xs, batch.weights)) for batch in c.windows[first:last]]
    rows = []
    for b in range(B):
        row = [jax.tree.map(lambda a, b=b: a[:, b], window) for window in windows]
        reset = [flags[b] and c.initial is not None for flags in RESET[first:last]]
        rows.append(_row(c, row_of(state, b), row, reset, [edge_weight[b] for edge_weight in edge_weights])[0])
    return rows


def _row(c, s, windows, reset, edge_weights):
    """The chain rule along one row: xs [T, ...] and weights [T] of each window.

    Returns:
        The true values, and the gradients of all arguments.
    """
    loss, path, d_xs, first = 0.0, [], [], s
    for (xs, weights), is_reset in zip(windows, reset, strict=True):
        if is_reset:
            s = c.initial(c.params)
        for t, edge_weight in enumerate(edge_weights):
            x = jax.tree.map(lambda a, t=t: a[t], xs)
            path.append((s, x, weights[t], edge_weight, is_reset and t == 0))
            s, step_loss = _step(c.step, c.params, s, x)
            loss += weights[t] * np.asarray(step_loss)
    ds = [np.zeros(a.shape, a.dtype) for a in _floats(s)]
    grads = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), c.params)
    for before, x, weight, edge_weight, starts in reversed(path):
        d_params, ds, dx = jax.device_get(_step_back(c.step, c.params, before, x, ds, weight))
        d_xs.append(dx)
        grads = jax.tree.map(np.add, grads, d_params)
        ds = [a * np.asarray(edge_weight, a.dtype) for a in ds]
        if starts:
            grads = jax.tree.map(np.add, grads, jax.device_get(_initial_back(c.initial, c.params, ds)))
            ds = [np.zeros_like(a) for a in ds]
    d_xs = [np.stack(leaves) for leaves in zip(*reversed(d_xs), strict=True)]
    arguments = Arguments(grads, _like_floats(first, ds), _like_floats(windows[0][0], d_xs))
    return Truth(np.asarray(loss), grads, s), arguments


def _like_floats(tree, values):
    """The values in the places of the float leaves of a tree, with None in the other places."""
    left = iter(values)
    return jax.tree.map(lambda leaf: next(left) if _is_float(leaf) else None, tree)


@functools.partial(quick_jit, static_argnums=0)
def _step(step, params, state, x):
    return step(params, state, x)


@functools.partial(quick_jit, static_argnums=0)
def _step_back(step, params, state, x, ds, weight):
    """The cotangents of a step's arguments, from `ds`, the cotangent of the new state, and the weight of its loss."""

    def join(tree, floats):
        floats = iter(floats)
        return jax.tree.map(lambda a: next(floats) if _is_float(a) else a, tree)

    def f(params, s_floats, x_floats):
        new, loss = step(params, join(state, s_floats), join(x, x_floats))
        return _floats(new), loss

    (_, loss), back = jax.vjp(f, params, _floats(state), _floats(x))
    return back((ds, jnp.asarray(weight, loss.dtype)))


@functools.partial(quick_jit, static_argnums=0)
def _initial_back(initial, params, ds):
    return jax.vjp(lambda params: _floats(initial(params)), params)[1](ds)[0]


def _floats(state):
    return [a for a in jax.tree.leaves(state) if _is_float(a)]


def _is_float(a):
    return jnp.issubdtype(a.dtype, jnp.inexact)


def _stack(trees):
    return jax.tree.map(lambda *a: jnp.stack(a), *trees)
