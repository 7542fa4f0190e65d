"""`while_loop` against Python loops, whose edges are cut by `stop_gradient`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.gradients import Full, Implicit, Last, Sliding, Truncated
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

MAX = 9
STOPS = (0, 1, 4, 7, MAX)


def cut_every(steps):
    return lambda t, stop: t > 0 and t % steps == 0


def cut_before_last(steps):
    return lambda t, stop: t == stop - steps and t > 0


def uncut(t, stop):
    return False


# Each strategy, and whether the edge into step t is cut in a loop that stops after `stop` steps.
STRATEGIES = {
    "full": (Full(), uncut),
    "levels=1": (Full(levels=1), uncut),
    "levels=2": (Full(levels=2), uncut),
    "budget": (Full(budget="3kB"), uncut),
    "truncated 1": (Truncated(steps=1), cut_every(1)),
    "truncated 3": (Truncated(steps=3), cut_every(3)),
    "truncated 50": (Truncated(steps=50), uncut),
    "last 1": (Last(steps=1), cut_before_last(1)),
    "last 4": (Last(steps=4), cut_before_last(4)),
    "last 50": (Last(steps=50), uncut),
}
RNG = np.random.default_rng(0)
W = 0.4 * RNG.normal(size=(3, 3))
X_B = RNG.normal(size=(len(STOPS), 3))
H_B = RNG.normal(size=(len(STOPS), 3))


def body_of(W, x, stop):
    """A step that draws, counts, and has neither a value nor a derivative after the stop."""

    def body(state):
        h, n = state["h"], state["n"]
        noise = jax.random.normal(jax.random.fold_in(state["key"], n), h.shape)
        size = jnp.sqrt(jnp.where(n < stop, 1 + h**2, 0 * h)) + jnp.where(n < stop, 0.0, jnp.nan)
        return {"h": jnp.sin(W @ h + x) / size + 0.1 * noise, "n": n + 1, "key": state["key"]}

    return body


def start(h):
    return {"h": h, "n": jnp.int32(0), "key": jax.random.key(3)}


def loss_of(state):
    return jnp.sum(jnp.cos(state["h"]) * (state["n"] + 1).astype(float))


def looped(strategy):
    """The loss of one row by `while_loop`, whose condition and body close over the stop."""

    def loss(W, x, h, stop):
        state = sj.while_loop(lambda s: s["n"] < stop, body_of(W, x, stop), start(h), MAX, strategy)
        return loss_of(state)

    return loss


def unrolled(stop):
    """The loss of one row by a Python loop; kept[t] says whether the edge into step t is kept."""

    def loss(W, x, h, kept):
        state, body = start(h), body_of(W, x, stop)
        for t in range(stop):
            state = body(state | {"h": jnp.where(kept[t], state["h"], jax.lax.stop_gradient(state["h"]))})
        return loss_of(state)

    return loss


@functools.cache
def wanted():
    """For each strategy the loss, the gradients by W, x and the initial state, and a Hessian-vector product by W."""
    cuts = [cut for _, cut in STRATEGIES.values()]

    def rows(W):
        for i, stop in enumerate(STOPS):
            kept = np.array([[not cut(t, stop) for t in range(MAX)] for cut in cuts])
            value_and_grad = jax.value_and_grad(unrolled(stop), (0, 1, 2))
            along = lambda *args, f=value_and_grad: jax.jvp(lambda W: f(W, *args), (W,), (jnp.cos(W),))
            yield jax.vmap(along, (None, None, 0))(X_B[i], H_B[i], kept)

    stacked = quick_jit(lambda W: jax.tree.map(lambda *a: jnp.stack(a, 1), *rows(W)))(W)
    return {name: jax.tree.map(lambda a, i=i: a[i], stacked) for i, name in enumerate(STRATEGIES)}


def derivatives(loss):
    """The loss and its gradients, and their derivatives in a direction of W."""

    def run(W, *args):
        return jax.jvp(lambda W: jax.value_and_grad(loss, (0, 1, 2))(W, *args), (W,), (jnp.cos(W),))

    return run


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_row_stops_by_itself(name):
    """All rows together: values, gradients and Hessian-vector products."""
    run = jax.vmap(derivatives(looped(STRATEGIES[name][0])), (None, 0, 0, 0))
    assert_close(quick_jit(run)(W, X_B, H_B, np.array(STOPS, np.int32)), wanted()[name], name, bound=1e-12)


@pytest.mark.parametrize("name", ["full", "levels=2", "truncated 3", "last 4"])
def test_one_loop_alone(name):
    run = quick_jit(derivatives(looped(STRATEGIES[name][0])))
    for i, stop in enumerate(STOPS):
        want = jax.tree.map(lambda a, i=i: a[i], wanted()[name])
        assert_close(run(W, X_B[i], H_B[i], np.int32(stop)), want, f"{name}, {stop} steps", bound=1e-12)
