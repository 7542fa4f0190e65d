"""`check_estimator` passes right gradients, and finds mistakes that libraries have shipped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error
from seqjax.gradients import Randomized, Truncated
from seqjax.testing import check_estimator

SEGMENT = 3


def step(params, state, x):
    h = jnp.tanh(params["w"] * state["h"][::-1] + x)
    return {"h": h}, jnp.sum(h) ** 2 + params["w"][0] * x


XS = np.random.default_rng(0).normal(size=(2, 4))
SCAN = step, {"w": np.array([0.7, -1.1])}, {"h": np.array([0.3, 0.5])}, [*XS]
"""A scan of one's own, which is smaller than those of seqjax: two windows of four steps."""


def autodiff(step, params, state, xs, key):
    """JAX's own reverse mode through the scan."""

    def loss(params):
        return jax.lax.scan(lambda state, x: step(params, state, x), state, xs)[1].sum()

    return jax.value_and_grad(loss)(params)


def hand_written(step, params, state, xs, key, *, detach="before the segment"):
    """Truncated backpropagation, as it is often written: a Python loop over segments, and a detached state."""
    total, grads = 0.0, jax.tree.map(jnp.zeros_like, params)
    num_steps = len(jax.tree.leaves(xs)[0])
    for first in range(0, num_steps, SEGMENT):

        def loss(params, state, first=first):
            losses = 0.0
            for t in range(first, min(first + SEGMENT, num_steps)):
                state, value = step(params, state, jax.tree.map(lambda a, t=t: a[t], xs))
                if detach == "after each step":
                    state = jax.lax.stop_gradient(state)
                losses += value
            return losses, state

        (value, state), part = jax.value_and_grad(loss, has_aux=True)(params, state)
        total, grads = total + value, jax.tree.map(jnp.add, grads, part)
    return total, grads


def test_reverse_mode_is_exact():
    table = check_estimator(autodiff, claim="exact", scan=SCAN)
    assert table["check"] == ["loss", "exact: window's gradient"]
    assert max(table["worst error"]) < 1e-13


def test_a_hand_written_loop_is_the_truncated_gradient_and_not_exact():
    table = check_estimator(hand_written, claim="biased", like=Truncated(steps=SEGMENT), scan=SCAN)
    assert max(table["worst error"]) < 1e-13
    with pytest.raises(Error, match=r"window 0, gradient, .*worst relative error"):
        check_estimator(hand_written, claim="exact", scan=SCAN)


@pytest.mark.slow
def test_a_state_that_is_detached_at_every_step_is_found():
    def wrong(*args):
        return hand_written(*args, detach="after each step")

    with pytest.raises(Error, match="the gradient of Truncated"):
        check_estimator(wrong, claim="biased", like=Truncated(steps=SEGMENT), scan=SCAN)


def test_randomised_truncation_is_unbiased():
    """With π = .7 and a draw for each step."""

    def estimate(step, params, state, xs, key):
        def loss(params):
            def body(state, inputs):
                x, weight = inputs
                cut = jax.lax.stop_gradient(state)
                return step(params, jax.tree.map(lambda a, b: b + weight * (a - b), state, cut), x)

            weights = jax.random.bernoulli(key, 0.7, (len(xs),)).astype(float) / 0.7
            return jax.lax.scan(body, state, (xs, weights))[1].sum()

        return jax.value_and_grad(loss)(params)

    assert max(check_estimator(estimate, claim="unbiased", scan=SCAN)["worst error"]) < 1


def online(step, params, state, xs, key, memory, *, carry=True):
    """The gradient of the history: the derivative of the state by the parameters is carried."""
    memory = memory if carry and memory is not None else jnp.zeros((2, 2))

    def window(params, state):
        end, losses = jax.lax.scan(lambda state, x: step(params, state, x), state, xs)
        return losses.sum(), end["h"]

    of_loss, of_end = jax.jacobian(window, (0, 1))(params, state)
    gradient, memory = (by_params["w"] + by_state["h"] @ memory for by_params, by_state in (of_loss, of_end))
    return window(params, state)[0], {"w": gradient}, memory


def test_forward_mode_with_a_carried_derivative_is_exact_of_the_history():
    table = check_estimator(online, claim="exact", of="history", scan=SCAN)
    assert max(table["worst error"]) < 1e-13
    with pytest.raises(Error, match="gradient"):
        check_estimator(lambda *args: online(*args, carry=False), claim="exact", of="history", scan=SCAN)


def test_a_function_that_cannot_be_traced_is_called_as_it_is():
    def plain(step, params, state, xs, key):
        loss, grads = autodiff(step, params, state, xs, key)
        return float(loss), grads

    assert max(check_estimator(plain, claim="exact", scan=SCAN, traceable=False)["worst error"]) < 1e-13


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"claim": "right"}, "must be exact, unbiased or biased"),
        ({"claim": "biased"}, "needs like="),
        ({"claim": "biased", "like": Randomized()}, "draws at random"),
        ({"claim": "exact", "arrays": "tensorflow"}, "must be jax, numpy or torch"),
        ({"claim": "exact", "batched": True}, "give scan="),
        ({"claim": "exact", "scan": (step, {}, {})}, "or the problem of a model"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(Error, match=message):
        check_estimator(autodiff, **arguments)


def test_results_of_another_form_are_named():
    with pytest.raises(Error, match=r"returned a tuple of 2, and must return \(loss, gradient, memory\)"):
        check_estimator(lambda *args: autodiff(*args[:5]), claim="exact", of="history", scan=SCAN)
    with pytest.raises(Error, match="the gradient has the shapes"):
        check_estimator(lambda *args: (autodiff(*args)[0], {"w": jnp.zeros(3)}), claim="exact", scan=SCAN)


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        ((step, SCAN[1], SCAN[2], {"u": XS}), "windows must be a list .* not dict"),
        ((step, SCAN[1], SCAN[2], [XS[0], XS[1][:3]]), "one number of steps as their first axis"),
        ((step, {"w": 1}, SCAN[2], [*XS]), "such as 1.0 in place of 1"),
        ((step, SCAN[1], {"h": np.zeros((5, 2))}, [np.zeros((4, 5))]), "has an axis of rows, give batched=True"),
        ((lambda params, state, x: state, *SCAN[1:]), r"must return \(new state, loss\)"),
        ((lambda params, state, x: (state, state["h"]), *SCAN[1:]), "must return one number"),
    ],
)
def test_scans_that_do_not_fit_are_refused(scan, message):
    with pytest.raises(Error, match=message):
        check_estimator(autodiff, claim="exact", scan=scan)


def test_a_function_with_other_arguments_is_refused():
    with pytest.raises(
        Error, match=r"called with \(step, params, state, xs, key\), and has the arguments \(params, xs\)"
    ):
        check_estimator(lambda params, xs: None, claim="exact", scan=SCAN)
