"""Gradients by brute force, and three settings to compute them in.

The oracle is a Python loop over rows and time steps. It calls no scan, no gate and no strategy of seqjax.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax
from seqjax import Batch, Model, Problem, Spec, Tokens, Values

T, B = 6, 3
FRESH = ((True, False, False), (False, True, False), (True, False, False))
"""Three windows; row 2 is carried through all of them."""
CASES = ("rnn", "learned", "foreign")
CUTS = {k: [float(t == 0 or t % k > 0) for t in range(T)] for k in range(1, T)}
"""The gates that cut at positive multiples of k."""


class Case(NamedTuple):
    """A problem, its data, and the same scan body for the oracle."""

    problem: Problem
    params: Any
    state: Any  # what enters the first window, leaves [B, ...]: not zero
    windows: list[Batch]
    step: Callable  # (params, state, x) -> (state, loss)
    initial: Callable  # params -> state


class Truth(NamedTuple):
    """What the oracle finds of one row; `state` after the last step."""

    loss: Any
    grads: Any
    state: Any


@dataclass(frozen=True)
class Learned(Model):
    """A model whose initial state is learned, with a counter in its state."""

    hidden: int = 3

    def init(self, key, spec):
        shapes = {"W": (spec.inputs.dim, self.hidden), "U": (self.hidden, self.hidden), "h0": (self.hidden,)}
        shapes["V"] = (self.hidden, spec.targets.dim)
        keys = jax.random.split(key, len(shapes))
        return {n: 0.5 * jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}

    def init_state(self, params, spec, key=None):
        return {"h": jnp.tanh(params["h0"]), "n": jnp.zeros((), jnp.int32)}

    def step(self, params, state, x):
        h = jnp.tanh(x @ params["W"] + state["h"] @ params["U"] * jnp.cos(state["n"].astype(x.dtype)))
        return {"h": h, "n": state["n"] + 1}, h @ params["V"]


@dataclass(frozen=True)
class Noisy(Learned):
    """Keeps a key in its state if it is given one, and is deterministic if not."""

    def init_state(self, params, spec, key=None):
        state = super().init_state(params, spec)
        return state if key is None else state | {"key": key}

    def step(self, params, state, x):
        after, output = super().step(params, state, x)
        if "key" not in state:
            return after, output
        noise = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), after["h"].shape, output.dtype)
        return after | {"h": after["h"] + 0.1 * noise, "key": state["key"]}, output


def foreign_step(params, state, x):
    """Somebody else's scan body: two float leaves, a counter and a key, noise inside."""
    noise = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), (3,), x["u"].dtype)
    v = 0.4 * state["v"] + jnp.sin(params["A"] @ state["v"] + params["b"] * x["u"] * state["m"] + 0.1 * noise)
    m = 0.7 * state["m"] + params["c"] @ v
    return {"v": v, "m": m, "n": state["n"] + 1, "key": state["key"]}, jnp.mean((v - x["y"]) ** 2) + m * m


def foreign_init(params, key=None):
    """A learned initial state; the key is fixed so that the oracle needs none."""
    return {
        "v": params["v0"] ** 2,
        "m": jnp.ones_like(params["c"][0]),
        "n": jnp.zeros((), jnp.int32),
        "key": jax.random.key(7),
    }


def case(name: str) -> Case:
    """The setting of this name, in float64 under x64 and else in float32."""
    return _case(name, jax.config.jax_enable_x64)


@functools.cache
def _case(name, x64):
    return {"rnn": _rnn, "learned": _learned, "foreign": _foreign}[name](np.random.default_rng(11))


def _rnn(rng):
    size, hidden = 5, 4
    shapes = {"W_xh": (size, hidden), "W_hh": (hidden, hidden), "b_h": (hidden,)}
    params = {"layer_0": {name: _normal(rng, shape, 0.7) for name, shape in shapes.items()}}
    params |= {"W_hq": _normal(rng, (hidden, size), 0.7), "b_q": _normal(rng, (size,), 0.7)}
    spec = Spec(Tokens(size))
    problem = Problem.of(seqjax.create("model", "rnn", hidden=hidden), spec)
    state = jax.vmap(lambda _: problem.init_state(params))(jnp.arange(B))
    state = jax.tree.map(lambda a: a + _normal(rng, a.shape, 0.5), state)

    def step(params, state, x):
        layer = params["layer_0"]
        h = jnp.tanh(layer["W_xh"][x[0]] + jax.tree.leaves(state)[0] @ layer["W_hh"] + layer["b_h"])
        logits = h @ params["W_hq"] + params["b_q"]
        return jax.tree.unflatten(jax.tree.structure(state), [h]), -jax.nn.log_softmax(logits)[x[1]]

    def xs():
        ids = jnp.asarray(rng.integers(0, size, (T + 1, B)), jnp.int32)
        return ids[:-1], ids[1:]

    return Case(problem, params, state, _windows(rng, xs), step, problem.init_state)


def _learned(rng):
    spec = Spec(Values(2), Values(1))
    model = Learned()
    params = model.init(jax.random.key(2), spec)
    state = {"h": _normal(rng, (B, model.hidden), 0.5), "n": jnp.array([4, 0, 9], jnp.int32)}

    def step(params, state, x):
        state, output = model.step(params, state, x[0])
        return state, jnp.mean((output - x[1]) ** 2)

    def initial(params):
        return model.init_state(params, spec)

    def xs():
        return _normal(rng, (T, B, 2)), _normal(rng, (T, B, 1))

    return Case(Problem.of(model, spec), params, state, _windows(rng, xs), step, initial)


def _foreign(rng):
    params = {"A": _normal(rng, (3, 3), 0.5), "b": _normal(rng, 3), "c": _normal(rng, 3, 0.3)}
    params["v0"] = _normal(rng, 3)
    state = {"v": _normal(rng, (B, 3)), "m": _normal(rng, B), "n": jnp.array([2, 7, 0], jnp.int32)}
    state["key"] = jax.random.split(jax.random.key(5), B)

    def xs():
        return {"u": _normal(rng, (T, B)), "y": _normal(rng, (T, B, 3))}

    problem = Problem(foreign_step, foreign_init)
    return Case(problem, params, state, _windows(rng, xs), foreign_step, foreign_init)


def _normal(rng, shape, scale=1.0):
    return jnp.asarray(scale * rng.normal(size=shape), float)


def _windows(rng, xs):
    """Uneven weights that sum to 1, some of them zero: at the start, the end and in between."""
    windows = []
    for fresh in FRESH:
        weights = rng.uniform(0.5, 1.5, (T, B)) * (rng.random((T, B)) < 0.8)
        weights[0, 2] = weights[-1, 1] = 0
        weights = jnp.asarray(weights / weights.sum(), float)
        windows.append(Batch(xs(), weights, jnp.array(fresh), jnp.arange(B, dtype=jnp.int32)))
    return windows


def truth(name: str, first: int, last: int, gates: Any = None) -> Truth:
    """The sum over all rows of `truth_of_rows`, states stacked."""
    rows = truth_of_rows(name, first, last, gates)
    loss, grads = jax.tree.map(lambda *a: sum(a), *[(row.loss, row.grads) for row in rows])
    return Truth(loss, grads, jax.tree.map(lambda *a: jnp.stack(a), *[row.state for row in rows]))


def truth_of_rows(name: str, first: int, last: int, gates: Any = None) -> list[Truth]:
    """The gradient of windows first <= w < last, through all of them; what enters window `first` is constant.

    `gates`, T numbers or T x B, multiply the tangent that enters each step of every window.
    """
    gates = np.broadcast_to(np.ones((T, 1)) if gates is None else np.reshape(gates, (T, -1)), (T, B))
    return _truth(name, first, last, tuple(map(tuple, gates.tolist())), jax.config.jax_enable_x64)


@functools.cache
def _truth(name, first, last, gates, x64):
    c = case(name)
    state = c.state if first == 0 else truth(name, 0, first).state

    def row_loss(params, b):
        s, total = jax.tree.map(lambda a: a[b], state), 0.0
        for batch, fresh in zip(c.windows[first:last], FRESH[first:last], strict=True):
            s = c.initial(params) if fresh[b] else s
            for t in range(T):
                x = jax.tree.map(lambda a: a[t, b], batch.xs)  # noqa: B023
                s, loss = c.step(params, _scale_tangent(s, gates[t][b]), x)
                total = total + batch.weights[t, b] * loss
        return total, s

    rows = []
    for b in range(B):
        (loss, s), grads = jax.value_and_grad(row_loss, has_aux=True)(c.params, b)
        rows.append(Truth(loss, grads, s))
    return rows


def _scale_tangent(state, gate):
    if gate == 1:
        return state

    def leaf(a):
        if not _is_float(a):
            return a
        held = jax.lax.stop_gradient(a)
        return held if gate == 0 else held + gate * (a - held)

    return jax.tree.map(leaf, state)


def _is_float(a):
    return jnp.issubdtype(a.dtype, jnp.inexact)
