"""k2 steps back every k1 steps, against a loop that stops the gradient at the steps that the docstring names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.checks import CUTS

import seqjax
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.calls import estimates
from seqjax.testing.proofs.cases import T, case
from seqjax.testing.proofs.claims import check_window
from seqjax.testing.proofs.oracle import truth
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

PAIRS = [(1, 3), (4, 5), (5, 6)]


def k1k2(k1, k2):
    return seqjax.create("gradient", "k1k2", k1=k1, k2=k2)


def held(state):
    """The state as a constant. Only its float leaves have a gradient."""
    is_float = lambda a: jnp.issubdtype(a.dtype, jnp.inexact)
    return jax.tree.map(lambda a: jax.lax.stop_gradient(a) if is_float(a) else a, state)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def chunk_by_chunk(name, k1, k2, state, batch):
    """The sum of the gradients of all chunks' losses, each by a loop of its own from the start of the window."""
    c = case(name)

    def row(params, state, xs, weights, reset):
        start = jax.tree.map(lambda new, old: jnp.where(reset, new, old), c.initial(params), state)
        total = 0.0
        for end in range(k1, T + k1, k1):
            s = start
            for t in range(min(end, T)):
                s = held(s) if t == end - k2 and t > 0 else s
                s, loss = c.step(params, s, jax.tree.map(lambda a, t=t: a[t], xs))
                total += weights[t] * loss if t >= end - k1 else 0.0
        return total

    rows = jax.vmap(row, (None, 0, 1, 1, 0))
    return jax.value_and_grad(lambda params: rows(params, state, batch.xs, batch.weights, batch.reset).sum())(c.params)


@pytest.mark.parametrize(
    ("name", "k1", "k2"),
    [("learned", 2, 5)]
    + [pytest.param("learned", *pair, marks=pytest.mark.slow) for pair in PAIRS]
    + [pytest.param(name, 2, 3, marks=pytest.mark.slow) for name in ("foreign", "cell")],
)
def test_every_chunk_goes_back_k2_steps(name, k1, k2):
    c, found = case(name), estimates(k1k2(k1, k2), case(name))
    for w, (batch, estimate) in enumerate(zip(c.windows, found, strict=True)):
        state = truth(name, 0, w).state if w else c.state
        want = chunk_by_chunk(name, k1, k2, state, batch)
        assert_close((estimate.loss, estimate.grads), want, f"{name}, window {w}")
        assert_close(estimate.state, truth(name, w, w + 1).state, f"{name}, state after window {w}")


@pytest.mark.parametrize(("k1", "k2", "edge_weights"), [(4, 4, CUTS[4]), (5, T + 4, None)])
def test_equal_steps_truncate_and_a_long_way_back_is_full(k1, k2, edge_weights):
    check_window(k1k2(k1, k2), edge_weights, ["learned"])


@pytest.mark.slow
def test_one_step_further_back_is_another_gradient():
    one, two = (estimates(k1k2(2, k2), case("learned"))[1].grads for k2 in (3, 4))
    assert_far(one, two, "k2 = 3 and 4")


def test_k2_is_at_least_k1():
    with pytest.raises(seqjax.Error, match=r"k2 = 2 < k1 = 3.*make k2 at least k1"):
        k1k2(3, 2)


def test_no_step_is_taken_past_the_window():
    """A step past the window would divide by zero here, and 0 times infinity is NaN."""

    def step(w, state, x):
        h, n = state
        h = jnp.tanh(w * h + x)
        return (h, n + 1), h**2 / (5 - n)

    args = jnp.array(0.7), (jnp.full(1, 0.3), jnp.zeros(1)), jnp.ones((5, 1))
    want = seqjax.value_and_grad(step, seqjax.create("gradient", "full"))(*args)
    for strategy in (k1k2(2, 3), k1k2(2, 5), k1k2(3, 4)):
        found = quick_jit(seqjax.value_and_grad(step, strategy))(*args)
        assert float(found.loss) == pytest.approx(float(want.loss), rel=1e-13)
        assert np.isfinite(found.grads)
