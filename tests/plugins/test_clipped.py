"""Clipping the gradient by the state at every step, against a loop with `jax.vjp` at each step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import value_and_grad
from seqjax.testing.compare import assert_close, assert_far
from seqjax_gradients import Clipped, Full

pytestmark = pytest.mark.usefixtures("x64")

T, B = 8, 3


def step(params, state, x):
    v = params["A"] @ jnp.sin(state["v"]) + x["u"] * state["m"]
    return {"v": v, "m": 0.9 * state["m"] + v[0], "n": state["n"] + 1}, jnp.sum(v**2) + params["c"] * state["m"]


def arguments(scale=2.0):
    rng = np.random.default_rng(0)
    params = {"A": jnp.asarray(scale * rng.normal(size=(3, 3))), "c": jnp.array(0.3)}
    state = {"v": jnp.asarray(rng.normal(size=(B, 3))), "m": jnp.ones(B), "n": jnp.zeros(B, jnp.int32)}
    return params, state, {"u": jnp.asarray(rng.normal(size=(T, B)))}


def clip(ds, limit, by):
    if by == "value":
        return jax.tree.map(lambda a: np.clip(a, -limit, limit), ds)
    norm = np.sqrt(sum(np.sum(np.square(a)) for a in jax.tree.leaves(ds)))
    return jax.tree.map(lambda a: a * (limit / norm if norm > limit else 1), ds)


def loop(params, state, xs, weights, limit, by):
    """Gradients of parameters and inputs, row by row, with the cotangent of the state clipped after each step back."""
    total, d_inputs, d_state = None, np.zeros((T, B)), []
    for b in range(B):
        s, path = jax.tree.map(lambda a, b=b: a[b], state), []
        for t in range(T):
            path.append((s, xs["u"][t, b]))
            s, _ = step(params, s, {"u": xs["u"][t, b]})
        ds = jax.tree.map(lambda a: np.zeros(np.shape(a)), {"v": s["v"], "m": s["m"]})
        mean = weights[:, b].sum() / max(1, (weights[:, b] != 0).sum())
        for t in reversed(range(T)):
            before, u = path[t]

            def f(params, v, m, u, n=before["n"]):
                new, loss = step(params, {"v": v, "m": m, "n": n}, {"u": u})
                return {"v": new["v"], "m": new["m"]}, loss

            _, pull = jax.vjp(f, params, before["v"], before["m"], u)
            d_params, dv, dm, du = pull((ds, jnp.asarray(weights[t, b])))
            ds = clip({"v": np.asarray(dv), "m": np.asarray(dm)}, limit * mean, by)
            total = d_params if total is None else jax.tree.map(jnp.add, total, d_params)
            d_inputs[t, b] = du
        d_state.append(ds)
    return total, jax.tree.map(lambda *a: np.stack(a), *d_state) | {"n": None}, {"u": d_inputs}


@pytest.mark.parametrize("by", ["norm", "value"])
@pytest.mark.parametrize("limit", [0.5, 4.0])
def test_every_step_back_is_clipped(by, limit):
    args = arguments()
    weights = np.random.default_rng(1).uniform(0.5, 1, (T, B))
    weights[2, 1] = weights[-1, 0] = 0
    strategy = Clipped(limit=limit, by=by)
    found = jax.jit(value_and_grad(step, strategy, (0, 1, 2)))(*args, weights=weights)
    assert_close(found.grads, loop(*args, weights, limit, by), f"{by} {limit}")
    full = value_and_grad(step, Full(), (0, 1, 2))(*args, weights=weights)
    assert_close((found.loss, found.state), (full.loss, full.state), "loss and state")
    assert_far(found.grads, full.grads, "something is clipped")


def test_the_limit_does_not_depend_on_the_number_of_rows_and_on_the_scale_of_the_weights():
    params, state, xs = arguments()
    twice = [jax.tree.map(lambda a, n=n: jnp.concatenate([a, a], n), tree) for n, tree in ((0, state), (1, xs))]
    strategy = Clipped(limit=1.0)
    one = value_and_grad(step, strategy)(params, state, xs)
    assert_close(value_and_grad(step, strategy)(params, *twice).grads, one.grads, "twice as many rows")
    scaled = value_and_grad(step, strategy)(params, state, xs, weights=np.full((T, B), 5 / (T * B)))
    assert_close(scaled.grads, jax.tree.map(lambda a: 5 * a, one.grads), "weights times 5")


@pytest.mark.parametrize("by", ["norm", "value"])
def test_a_gradient_that_overflows_becomes_finite(by):
    """The state is 0, and its tangent grows tenfold at each of 200 steps: float32 ends at 3e38."""

    def growing(w, h, x):
        return 10 * w * h, h

    with jax.enable_x64(False):
        args = jnp.float32(1.0), jnp.zeros(1, jnp.float32), jnp.zeros((200, 1), jnp.float32)
        full, clipped = (value_and_grad(growing, each, (0, 1))(*args).grads for each in (Full(), Clipped(by=by)))
    assert not np.isfinite(full[1]).all()
    assert np.isfinite(clipped[1]).all()
    assert np.isfinite(clipped[0]).all()


def test_nothing_is_cut_where_the_limit_is_not_reached():
    args = arguments(scale=0.1)
    found, want = (value_and_grad(step, each)(*args).grads for each in (Clipped(limit=1e3), Full()))
    assert_close(found, want, "full")


def test_the_limit_is_positive():
    with pytest.raises(seqjax.Error, match="limit"):
        Clipped(limit=0.0)
