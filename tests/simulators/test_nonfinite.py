"""`first_nonfinite` on simulators that become unstable, against a Python loop of the same step.

`make simulators` installs the libraries and runs these tests. Elsewhere they are skipped.
"""

import jax
import jax.numpy as jnp
import numpy as np

import seqjax


def first_bad(step, params, state, xs):
    """The first step of a Python loop whose results are not finite, and the names of these leaves."""
    step = jax.jit(step)
    for t, x in enumerate(xs):
        state, loss = step(params, state, x)
        leaves = [("state " + jax.tree_util.keystr(path, simple=True, separator="."), a) for path, a in named(state)]
        bad = [name for name, a in [*leaves, ("loss", loss)] if not np.isfinite(np.asarray(a, float)).all()]
        if bad:
            return t, bad
    raise AssertionError("all values are finite")


def named(tree):
    return [(path, a) for path, a in jax.tree.leaves_with_path(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]


def test_a_cell_of_jaxley_with_large_steps(run_example):
    names = run_example("jaxley")
    init, advance = names["init"], names["advance"]

    def step(params, state, current):
        _, all_params = init(params, state)
        state = advance(state, all_params, {"i": current}, delta_t=5.0)  # in ms; .025 is stable
        return state, (state["v"][3] + 40) ** 2

    currents = 1e3 * jnp.sin(jnp.arange(400.0))[:, None]
    args = names["params"], names["state"], currents
    found = seqjax.first_nonfinite(step, *args)
    print(found)
    t, bad = first_bad(step, *args)
    assert found.value.step == t
    assert found.value.variable in bad


def test_a_rollout_of_brax_that_is_pushed(run_example):
    names = run_example("brax")
    env, state = names["env"], names["state"]

    def step(params, state, push):
        data = state.pipeline_state
        state = state.replace(pipeline_state=data.replace(qd=data.qd + push))
        state = env.step(state, jnp.tanh(params["W"] @ state.obs + params["b"]))
        return state, -state.reward

    pushes = jnp.zeros(50).at[17].set(1e25)
    args = names["params"], state, pushes
    found = seqjax.first_nonfinite(step, *args)
    print(found)
    t, bad = first_bad(step, *args)
    assert t >= 17
    assert found.value.step == t
    assert f"{found.value.of} {found.value.name}" in bad  # without the index of the entry
