"""Simulators of other libraries, unchanged: the examples of docs/foreign.md, against `jax.grad` of a plain scan.

`make simulators` installs the libraries and runs these tests. Elsewhere they are skipped.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax.gradients import RTRL, Full, Immediate, Sliding, SnAp, Truncated


@functools.partial(jax.jit, static_argnums=0)
def plain(step, params, state, xs, cut):
    """By `jax.grad` of a scan of the step, in which the state is a constant at multiples of `cut`.

    Returns:
        The mean loss with the mean of its absolute values, and the gradient.
    """

    def loss(params):
        def body(state, inputs):
            t, x = inputs
            cut_state = jax.tree.map(jax.lax.stop_gradient, state)
            state = jax.tree.map(lambda a, b: jnp.where(t % cut == 0, a, b), cut_state, state)
            return step(params, state, x)

        losses = jax.lax.scan(body, state, (jnp.arange(len(xs)), xs))[1]
        return losses.mean(), abs(losses).mean()

    return jax.value_and_grad(loss, has_aux=True)(params)


@functools.partial(jax.jit, static_argnums=0)
def of_the_last_loss(step, params, state, xs):
    """The gradient of the last loss by the parameters as each step uses them, and by the state that enters each step.

    Leaves [T, ...], by `jax.grad` of a scan with one copy of the parameters and one change of the state for each step.
    """
    copies, changes = jax.tree.map(lambda a: jnp.broadcast_to(a, (len(xs), *a.shape)), (params, state))
    changes = jax.tree.map(lambda a: jnp.zeros(a.shape) if jnp.issubdtype(a.dtype, jnp.floating) else None, changes)

    def loss(copies, changes):
        def body(state, inputs):
            params, change, x = inputs
            state = jax.tree.map(lambda d, a: a if d is None else a + d, change, state, is_leaf=lambda d: d is None)
            return step(params, state, x)

        return jax.lax.scan(body, state, (copies, changes, xs))[1][-1]

    return jax.grad(loss, argnums=(0, 1))(copies, changes)


def error(found, expected):
    """‖found - expected‖ / ‖expected‖ over all leaves."""
    found, expected = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)]) for tree in (found, expected))
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def assert_gradients(names, xs, cut, bound):
    """`full`, and the truncated gradient of the example, are those of `plain`."""
    step, params, state = names["step"], names["params"], names["state"]
    (loss, size), grads = plain(step, params, state, xs, len(xs))
    full_loss, full = jax.jit(seqjax.value_and_grad(step, Full()))(params, state, xs)
    errors = {"loss": abs(full_loss - loss) / size, "full": error(full, grads)}
    _, truncated = plain(step, params, state, xs, cut)
    errors["truncated"] = error(names["grads"], truncated)
    errors["sum of the lags"] = error(jax.tree.map(lambda a: a.sum(0), names["report"].gradients), grads)
    print(errors, "bias of the truncated gradient:", error(truncated, grads))
    assert max(errors.values()) < bound
    assert error(truncated, grads) > 1000 * bound, "truncating makes a difference"
    return grads


def assert_lags(names, xs, max_lag, bound):
    """The parts of the last loss's gradient by lag, and their norms by leaf."""
    step, params, state = names["step"], names["params"], names["state"]
    found = seqjax.lags(step, params, state, xs, max_lag, weights="last")
    by_copy, by_change = of_the_last_loss(step, params, state, xs)

    def parts(leaf):
        return jnp.concatenate([leaf[::-1][:max_lag], leaf[::-1][max_lag:].sum(0, keepdims=True)])

    expected = jax.tree.map(parts, by_copy)
    assert error(found.gradients, expected) < bound
    norms = {name: np.linalg.norm(np.reshape(a, (len(a), -1)), axis=1) for name, a in named(expected)}
    assert found.by_param.keys() == norms.keys()
    assert error(found.by_param, norms) < bound
    # The last entry of a state variable is the norm of a sum over several steps, of which one is counted here.
    changes = {name: np.linalg.norm(np.reshape(a, (len(a), -1)), axis=1)[::-1] for name, a in named(by_change)}
    assert found.by_state.keys() == changes.keys()
    for name, lags in found.by_state.items():
        want = changes[name][: max_lag - 1]
        np.testing.assert_allclose(lags.norms[:-1], want, rtol=1e4 * bound, atol=bound * max(want.max(), 1e-300))
    print(found)


def named(tree):
    """The leaves of a tree with their names."""
    return [(jax.tree_util.keystr(path, simple=True, separator="."), a) for path, a in jax.tree.leaves_with_path(tree)]


def test_diffrax(x64, run_example):
    names = run_example("diffrax")
    import diffrax

    times, dt = names["times"], names["dt"]
    grads = assert_gradients(names, times, 50, 1e-10)
    assert_lags(names, times, 100, 1e-10)

    def own(params):
        solve = functools.partial(diffrax.diffeqsolve, names["terms"], names["solver"], max_steps=len(times))
        found = solve(times[0], times[-1] + dt, dt, names["y"], params, saveat=diffrax.SaveAt(steps=True))
        return jnp.mean(jnp.sin(times) * found.ys[0])

    assert error(jax.jit(jax.grad(own))(names["params"]), grads) < 1e-10


def test_strategies_on_a_solver_of_diffrax_whose_state_is_carried(x64, run_example):
    """The step sees `vmap`: it takes the branch of the first step for all if strategies map it over time."""
    names = run_example("diffrax")
    step, params, state, times = names["step"], names["params"], names["state"], names["times"][:60]
    strategies = {
        "full": Full(),
        "rtrl": RTRL(),
        "snap": SnAp(),
        "sliding": Sliding(steps=60),
        "truncated(1)": Truncated(steps=1),
        "immediate": Immediate(),
    }
    found = seqjax.measure(step, params, state, times, strategies)
    _, grads = plain(step, params, state, times, 60)
    _, cut = plain(step, params, state, times, 1)
    want = [*[0] * 4, *[error(cut, grads)] * 2]
    np.testing.assert_allclose(found.bias, want, atol=1e-7)
    assert abs(found.norms["window"] / np.linalg.norm(np.stack(jax.tree.leaves(grads))) - 1) < 1e-10


def test_jaxley(x64, run_example):
    names = run_example("jaxley")
    import jaxley

    currents = names["currents"]
    assert currents.shape == (400, 1)
    assert list(names["report"].by_param) == ["0.HH_gNa", "1.HH_gK"]
    assert {"v", "HH_m", "HH_h", "HH_n"} <= set(names["report"].by_state)
    grads = assert_gradients(names, currents, 100, 1e-10)
    assert_lags(names, currents, 100, 1e-10)

    # `integrate` starts with the voltage of the initial state. It leaves tracers in the cell, so it is last.
    cell, state = names["cell"], names["state"]
    cell.branch(1).comp(1).record()

    def own(params):
        voltages = jaxley.integrate(cell, params, all_states=state)
        return jnp.mean((voltages[0, 1:401] + 40) ** 2)

    assert error(jax.jit(jax.grad(own))(names["params"]), grads) < 1e-10


def test_brax(run_example):
    """In float32, since the environment returns `done` as one."""
    names = run_example("brax")
    assert list(names["report"].by_param) == ["W", "b"]
    assert {"pipeline_state.q", "pipeline_state.qd", "obs"} <= set(names["report"].by_state)
    assert_gradients(names, names["noise"], 5, 1e-5)


def test_the_claim_of_braintrace_is_proved_where_it_holds_and_refused_where_it_does_not(run_example):
    names = run_example("braintrace")
    table = names["check"](connected=False)
    assert table["check"] == ["loss", "exact: window's gradient"]
    assert max(table["worst error"]) < 1e-13
    with pytest.raises(seqjax.Error, match=r"window 0, gradient, .*worst relative error"):
        names["check"](connected=True)
