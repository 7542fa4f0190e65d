"""The problems on which strategies are checked, each with three windows and a state that is not zero.

At the start of a window, one row of `cell` and one of `learned` rest: the state and the inputs are zero for some steps,
and the gradient by parameters that are zero, a bias and an initial state, passes these steps.

cell      a `Cell` on tokens, unrolled by the fused scan of all cells
learned   a `Model` with a learned initial state and a counter in its state
foreign   a bare scan body with two float leaves, a counter and a key in its state, and noise in its steps
small     a bare scan body with two state numbers and four parameters
linear    a state and a loss that are linear in the parameters, so that smoothing over parameters changes nothing
ids       a state that holds only inputs, and an empty array of floats
nothing   no state at all

`values`, a `Cell` on values, stands for `cell` where the targets have to be floats. It is no case of its own.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.spec import Spec, Tokens, Values
from seqjax.gradients.contract.problem import Problem
from seqjax.gradients.contract.window import Batch
from seqjax.models.cell import Cell
from seqjax.models.model import Model

T, B = 6, 4
RESET = ((True, False, False, False), (False, True, False, False), (True, False, False, False))
"""The rows that are reset at each of three windows. Rows 2 and 3 are carried through all of them."""
REST = 2
"""The number of steps at the start of a window at which row 0 rests, where it is reset and its case has such a row."""
MAIN = ("cell", "learned", "foreign")
NO_FLOATS = ("ids", "nothing")
CASES = (*MAIN, "small", "linear", *NO_FLOATS)
LEARNED_STATE = {"learned": "h0", "foreign": "v0"}
"""The parameter on which the initial state depends. Nothing else depends on it."""
TARGETS = {"learned": lambda xs: xs[1], "foreign": lambda xs: xs["y"], "values": lambda xs: xs[1]}
"""The part of what the steps read that only the loss depends on, where it is of floats."""


class Case(NamedTuple):
    """A problem, its data, and the same scan body for the oracle.

    Args:
        problem: the problem.
        params: its parameters.
        state: the state that enters the first window, leaves [B, ...].
        windows: three consecutive windows.
        step: (params, state, x) -> (new state, loss).
        initial: params -> the state in which a sequence starts; None: a row that is reset keeps its state.
    """

    problem: Problem
    params: Any
    state: Any
    windows: list[Batch]
    step: Callable
    initial: Callable | None


@functools.cache
def _case(name: str, num_steps: int, x64: bool) -> Case:
    # `x64` is only a part of the cache key: it changes the dtypes of the arrays.
    make = {
        "cell": _cell, "values": _values, "learned": _learned, "foreign": _foreign, "small": _small, "linear": _linear,
        "ids": _ids, "nothing": _nothing,
    }[name]  # fmt: skip
    c = make(np.random.default_rng(11))
    cut = lambda batch: batch._replace(
        xs=jax.tree.map(lambda a: a[:num_steps], batch.xs), weights=batch.weights[:num_steps]
    )
    return c._replace(windows=[cut(batch) for batch in c.windows])


def case(name: str, num_steps: int = T) -> Case:
    """The case of this name, with windows of `num_steps`; in float64 under x64, else in float32."""
    return _case(name, num_steps, jax.config.read("jax_enable_x64"))


@dataclass(frozen=True)
class Elman(Cell):
    """h = tanh(u + v)."""

    def cell(self, u, v, state):
        return self.State(jnp.tanh(u + v))


@dataclass(frozen=True)
class Learned(Model):
    """A model with a learned initial state and a counter in its state."""

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


def foreign_step(params, state, x):
    """A scan body with two float leaves, a counter and a key in its state, and noise in each step."""
    noise = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), (3,), x["u"].dtype)
    v = 0.4 * state["v"] + jnp.sin(params["A"] @ state["v"] + params["b"] * x["u"] * state["m"] + 0.1 * noise)
    m = 0.7 * state["m"] + params["c"] @ v
    return {"v": v, "m": m, "n": state["n"] + 1, "key": state["key"]}, jnp.mean((v - x["y"]) ** 2) + m * m


def foreign_init(params, key=None):
    """A learned initial state. Its key is fixed, so that the oracle needs none."""
    return {
        "v": params["v0"] ** 2,
        "m": jnp.ones_like(params["c"][0]),
        "n": jnp.zeros((), jnp.int32),
        "key": jax.random.key(7),
    }


def small_step(params, state, x):
    """Two units that read each other. The loss reads a parameter, too."""
    h = jnp.tanh(params["w"] * state["h"][::-1] + params["b"] * x["u"])
    return {"h": h}, (jnp.sum(h) - x["y"]) ** 2 + params["w"][0] * x["u"]


def small_init(params, key=None):
    """An initial state that depends on the parameters."""
    return {"h": 0.5 * params["b"]}


def linear_step(params, state, x):
    """A state of three numbers and a loss, both linear in the parameters."""
    mix = jnp.array([[0.5, 0.4, -0.2], [-0.3, 0.6, 0.1], [0.2, -0.5, 0.7]], x["u"].dtype)
    h = mix @ state["h"] + jnp.append(params["w"], params["c"]) * x["u"]
    return {"h": h}, x["y"] @ h + params["c"] * x["u"]


def linear_init(params, key=None):
    """An initial state that is linear in the parameters."""
    return {"h": params["c"] * jnp.array([1.0, -1.0, 2.0], params["c"].dtype)}


def ids_step(w, state, x):
    """A state that holds only inputs, so that there is nothing to differentiate through."""
    return state | {"last": x}, w[x] - 2 * w[state["last"]]


def nothing_step(w, state, x):
    """A step without any state."""
    return state, (x + 1).astype(w.dtype) * w[x]


def _cell(rng):
    size, hidden = 5, 4
    shapes = {"W_xh": (size, hidden), "W_hh": (hidden, hidden), "b_h": (hidden,)}
    params = {"layer_0": {name: _normal(rng, shape, 0.7) for name, shape in shapes.items()}}
    # Adding 10 to all logits changes no loss, but the norm of b_q.
    params |= {"W_hq": _normal(rng, (hidden, size), 0.7), "b_q": 10 + _normal(rng, (size,), 0.7)}
    params["layer_0"]["b_h"] = jnp.zeros(hidden)
    params["layer_0"]["W_xh"] = params["layer_0"]["W_xh"].at[0].set(0)
    problem = Problem.of(Elman(hidden=hidden), Spec(Tokens(size)))
    state = problem.init_rows(params, B)
    state = jax.tree.map(lambda a: a + _normal(rng, a.shape, 0.5), state)

    def step(params, state, x):
        layer = params["layer_0"]
        h = jnp.tanh(layer["W_xh"][x[0]] + jax.tree.leaves(state)[0] @ layer["W_hh"] + layer["b_h"])
        logits = h @ params["W_hq"] + params["b_q"]
        return jax.tree.unflatten(jax.tree.structure(state), [h]), -jax.nn.log_softmax(logits)[x[1]]

    def xs():
        ids = jnp.asarray(rng.integers(0, size, (T + 1, B)), jnp.int32)
        return ids[:-1].at[:REST, 0].set(0), ids[1:]

    return Case(problem, params, state, _windows(rng, xs), step, problem.init_state)


def _values(rng):
    cell = _cell(rng)
    spec, params = Spec(Values(5), Values(5)), cell.params
    problem = Problem.of(Elman(hidden=4), spec)

    def step(params, state, x):
        layer = params["layer_0"]
        h = jnp.tanh(x[0] @ layer["W_xh"] + jax.tree.leaves(state)[0] @ layer["W_hh"] + layer["b_h"])
        output = h @ params["W_hq"] + params["b_q"]
        return jax.tree.unflatten(jax.tree.structure(state), [h]), jnp.mean((output - x[1]) ** 2)

    xs = lambda: (_normal(rng, (T, B, 5)).at[:REST, 0].set(0), _normal(rng, (T, B, 5)))
    return Case(problem, params, cell.state, _windows(rng, xs), step, problem.init_state)


def _learned(rng):
    spec, model = Spec(Values(2), Values(1)), Learned()
    params = model.init(jax.random.key(2), spec) | {"h0": jnp.zeros(model.hidden)}
    state = {"h": _normal(rng, (B, model.hidden), 0.5), "n": jnp.array([4, 0, 9, 1], jnp.int32)}

    def step(params, state, x):
        state, output = model.step(params, state, x[0])
        return state, jnp.mean((output - x[1]) ** 2)

    def initial(params):
        return model.init_state(params, spec)

    xs = lambda: (_normal(rng, (T, B, 2)).at[:REST, 0].set(0), _normal(rng, (T, B, 1)))
    return Case(Problem.of(model, spec), params, state, _windows(rng, xs), step, initial)


def _foreign(rng):
    params = {"A": _normal(rng, (3, 3), 0.5), "b": _normal(rng, 3), "c": _normal(rng, 3, 0.3), "v0": _normal(rng, 3)}
    state = {"v": _normal(rng, (B, 3)), "m": _normal(rng, B), "n": jnp.array([2, 7, 0, 1], jnp.int32)}
    state["key"] = jax.random.split(jax.random.key(5), B)
    xs = lambda: {"u": _normal(rng, (T, B)), "y": _normal(rng, (T, B, 3))}
    return _of_scan(rng, foreign_step, foreign_init, params, state, xs)


def _small(rng):
    params, state = {"w": _normal(rng, 2, 0.8), "b": _normal(rng, 2)}, {"h": _normal(rng, (B, 2), 0.5)}
    xs = lambda: {"u": _normal(rng, (T, B)), "y": _normal(rng, (T, B))}
    return _of_scan(rng, small_step, small_init, params, state, xs)


def _linear(rng):
    params, state = {"w": _normal(rng, 2), "c": _normal(rng, ())}, {"h": _normal(rng, (B, 3), 0.5)}
    xs = lambda: {"u": _normal(rng, (T, B)), "y": _normal(rng, (T, B, 3))}
    return _of_scan(rng, linear_step, linear_init, params, state, xs)


def _ids(rng):
    xs = lambda: jnp.asarray(rng.integers(0, 3, (T, B)), jnp.int32)
    state = {"last": jnp.array([2, 0, 1, 1], jnp.int32), "none": jnp.zeros((B, 0))}
    return _of_scan(rng, ids_step, None, _normal(rng, 3), state, xs)


def _nothing(rng):
    xs = lambda: jnp.asarray(rng.integers(0, 3, (T, B)), jnp.int32)
    return _of_scan(rng, nothing_step, None, _normal(rng, 3), (), xs)


def _of_scan(rng, step, initial, params, state, xs):
    return Case(Problem(step, initial), params, state, _windows(rng, xs), step, initial)


def _normal(rng, shape, scale=1.0):
    return jnp.asarray(scale * rng.normal(size=shape), float)


def _windows(rng, xs):
    """Three windows with uneven weights that sum to 1. Some are zero: at the start, at the end, and in between."""
    windows = []
    for reset in RESET:
        weights = rng.uniform(0.5, 1.5, (T, B)) * (rng.random((T, B)) < 0.8)
        weights[0, 2] = weights[-1, 1] = 0
        weights = jnp.asarray(weights / weights.sum(), float)
        windows.append(Batch(xs(), weights, jnp.array(reset), jnp.arange(B, dtype=jnp.int32)))
    return windows
