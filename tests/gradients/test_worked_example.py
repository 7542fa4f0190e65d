"""The numbers of section 8.7, computed by hand, from a bare scan body."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.strategies import RTRL, Full, Randomized, Truncated

from seqjax import estimate
from seqjax.gradients.steps.unrolling import unroll
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

B_T, C_T = np.array([1.0, 2, 3, 4]), np.array([9.0, 0.5, 2, 3])
LAST = np.array([[0.0], [0], [0], [1]])


def linear_network(w, h, x):
    """(8.7.9) with l = o²/2 and y = 0; `w["e"]` is zero, and its gradient is that of L with respect to h_t."""
    x, t = x
    h = w["x"] * x + w["h"] * h + w["e"][t]
    return h, 0.5 * (w["q"] * h) ** 2


def recurrence(w, h, x):
    """h_t = b_t w + c_t h_{t-1}, whose derivative a_t = b_t + c_t a_{t-1} is the sum (8.7.5); the loss is h_t."""
    h = x["b"] * w + x["c"] * h
    return h, h


@pytest.mark.parametrize("strategy", [Full(), RTRL()], ids=repr)
def test_the_scalar_network(strategy):
    w = {"x": np.asarray(0.5), "h": np.asarray(0.5), "q": np.asarray(1.0), "e": np.zeros(3)}
    xs = np.ones((3, 1)), np.arange(3)[:, None]
    found = quick_jit(estimate(linear_network, strategy, batched=True))(w, np.zeros(1), xs, key=jax.random.key(0))
    want = {"x": 101 / 96, "h": 5 / 12, "q": 101 / 192, "e": [35 / 96, 19 / 48, 7 / 24]}
    want = jax.tree.map(np.asarray, want, is_leaf=lambda a: isinstance(a, list))
    assert_close((found.loss, found.grads), (np.asarray(101 / 384), want), "(8.7.10)-(8.7.16)")
    assert float(found.state[0]) == 0.875


@pytest.mark.parametrize(
    ("strategy", "a"), [(Full(), 28.0), (Randomized(keep_prob=1.0), 28.0), (Truncated(steps=2), 13.0)], ids=repr
)
def test_the_sum_over_paths(strategy, a):
    # If the edge into step 2 is cut, a_3 = b_3 and a_4 = 4 + 3·3.
    xs = {"b": B_T[:, None], "c": C_T[:, None]}
    run = quick_jit(estimate(recurrence, strategy, batched=True))
    found = run(np.asarray(0.3), np.ones(1), xs, weights=LAST, key=jax.random.key(0))
    assert_close(found.grads, np.asarray(a), "a_4", 1e-15)


def test_edge_weights_are_the_factors_of_the_sum():
    """Without c in the step, edge weights c_t make a_t = b_t + c_t a_{t-1}, in forward mode as well."""

    def last(w):
        step = functools.partial(lambda w, h, b: (h + b * w, h), w)
        return unroll(step, jnp.ones(1), jnp.asarray(B_T)[:, None], jnp.asarray(C_T))[0][0]

    assert [float(found) for found in quick_jit(lambda w: (jax.grad(last)(w), jax.jacfwd(last)(w)))(0.3)] == [28, 28]
