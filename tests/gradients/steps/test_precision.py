"""Steps that are computed in bfloat16."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from support.slow import slow

from seqjax import Error, Problem, estimate
from seqjax.gradients import RTRL, UORO, Full, Truncated
from seqjax.gradients.contract.checkpointed import checkpointed
from seqjax.testing.quick_jit import quick_jit

XS = np.random.default_rng(0).normal(size=(20, 2, 3)).astype(np.float32)


def step(params, state, x):
    h = jnp.tanh(state["h"] @ params["W"] + x)
    return {"h": h, "count": state["count"] + 1}, jnp.mean(h**2)


PARAMS = {"W": np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32) / 2}
STATE = {"h": np.zeros((2, 3), np.float32), "count": np.zeros(2, np.int32)}


def test_a_step_gets_bfloat16_and_returns_its_own_dtypes():
    seen = []

    def watched(params, state, x):
        seen.append([leaf.dtype for leaf in jax.tree.leaves((params["W"], state, x))])
        new, loss = step(params, state, x)
        return new, (loss, new["h"])

    run = estimate(watched, Full(), argnums=(0, 1, 2), has_aux=True, precision="bfloat16", batched=True)
    found = jax.eval_shape(lambda params, *args: run({**params, "name": "W", "f": jnp.tanh}, *args), PARAMS, STATE, XS)
    assert seen[-1] == [jnp.bfloat16, jnp.int32, jnp.bfloat16, jnp.bfloat16]
    of_floats = found.loss, found.grads[0]["W"], found.grads[1:], found.state["h"]
    assert {leaf.dtype for leaf in jax.tree.leaves(of_floats)} == {jnp.dtype(jnp.float32)}


def test_values_are_those_of_numpy_with_the_same_rounding():
    low, weights = ml_dtypes.bfloat16, PARAMS["W"].astype(ml_dtypes.bfloat16)
    h, losses = np.zeros((2, 3), low), []
    for x in XS:
        product = (h.astype(np.float32) @ weights.astype(np.float32)).astype(low)
        h = np.tanh((product + x.astype(low)).astype(np.float32)).astype(low)
        losses.append((h.astype(np.float32) ** 2).mean())
    found, exact = (
        quick_jit(estimate(step, Full(), precision=precision, batched=True))(PARAMS, STATE, XS)
        for precision in ("bfloat16", "float32")
    )
    np.testing.assert_allclose(found.state["h"], h.astype(np.float32), atol=0.02)
    assert found.state["count"].tolist() == [20, 20]
    assert found.loss == pytest.approx(np.mean(losses), rel=0.01)
    assert 1e-5 < np.abs(np.subtract(found.grads["W"], exact.grads["W"])).max() < 0.01


@pytest.mark.parametrize("strategy", [Full(), *slow(Full(checkpoint=True)), Truncated(steps=50)], ids=str)
def test_gradients_are_summed_over_time_in_float32(strategy):
    """In bfloat16 the sum of ones would end at 256, since 256 + 1 is rounded to 256."""
    run = estimate(lambda w, s, x: (s, w * x), strategy, precision="bfloat16")
    ones = np.ones(1000, np.float32)
    found = quick_jit(run)(np.float32(1.5), np.float32(0), ones, weights=ones)
    assert found.grads == 1000
    assert found.loss == 1500


@pytest.mark.parametrize("strategy", [RTRL(), UORO()], ids=str)
def test_what_is_carried_forwards_stays_in_float32(strategy):
    low, exact = (
        str(
            jax.make_jaxpr(estimate(step, strategy, precision=precision, batched=True))(
                PARAMS, STATE, XS, key=jax.random.key(0)
            )
        )
        for precision in ("bfloat16", "float32")
    )
    assert low == exact


def test_wrong_precisions_and_problems():
    with pytest.raises(Error, match="precision = 'float16' must be one of: float32, bfloat16"):
        estimate(step, Full(), precision="float16", batched=True)
    problem = checkpointed(Problem(step))
    with pytest.raises(Error, match=r"takes a step.*and not a problem with further fields"):
        estimate(problem, Full(), precision="bfloat16", batched=True)


def test_complex_numbers_are_not_rounded():
    """A real loss of a complex state; its real parameters are rounded."""

    def rotate(params, s, x):
        decay, turn = (params[name].astype(jnp.float32) for name in ("decay", "turn"))
        s = jnp.exp(jax.lax.complex(-decay, turn)) * s + x.astype(jnp.complex64)
        return s, jnp.sum(jnp.abs(s) ** 2)

    params = {"decay": np.full(3, 0.1, np.float32), "turn": np.full(3, 1.5, np.float32)}
    args = params, np.zeros((2, 3), np.complex64), np.ones((10, 2), np.float32)
    exact, low = (
        quick_jit(estimate(rotate, Full(), precision=precision, batched=True))(*args)
        for precision in ("float32", "bfloat16")
    )
    assert low.state.dtype == jnp.complex64
    np.testing.assert_allclose(low.loss, exact.loss, rtol=0.02)
    for name in params:
        np.testing.assert_allclose(low.grads[name], exact.grads[name], rtol=0.05)
