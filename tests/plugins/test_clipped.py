"""Clipping the gradient by the state at every step, against a loop over the derivatives of the steps."""

import jax
import numpy as np
import pytest
from support.parts import derivatives_of, ravel, shared_gradients

import seqjax
from seqjax import estimate
from seqjax.gradients import Clipped
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.calls import estimates
from seqjax.testing.proofs.cases import B, T, case, small_step
from seqjax.testing.quick_jit import quick_jit


def clip(ds, limit, by):
    if by == "value":
        return np.clip(ds, -limit, limit)
    size = np.linalg.norm(ds)
    return ds * (limit / size if size > limit else 1)


def by_hand(d, weights, limit, by):
    """The gradient of a window, with the cotangent of the state clipped after each step back."""
    total = 0.0
    for b in range(B):
        ds, mean = np.zeros(2), weights[:, b].sum() / np.count_nonzero(weights[:, b])
        for t in reversed(range(T)):
            total = total + ds @ d.I[b, t] + weights[t, b] * d.direct[b, t]
            ds = clip(ds @ d.J[b, t] + weights[t, b] * d.q[b, t], limit * mean, by)
        total = total + ds @ d.start[b]
    return total


@pytest.mark.parametrize(
    ("by", "limit"),
    [("norm", 0.5), ("value", 0.5), *(pytest.param(by, 2.0, marks=pytest.mark.slow) for by in ("norm", "value"))],
)
def test_every_step_back_is_clipped(by, limit, x64):
    found = estimates(Clipped(limit=limit, by=by), case("small"))
    windows = zip(found, case("small").windows, derivatives_of("small"), strict=True)
    for e, window, d in windows:
        weights = np.asarray(window.weights)
        want = np.sum(weights * d.losses.T), by_hand(d, weights, limit, by), d.state
        assert_close((e.loss, ravel(e.grads), e.state), want, f"{by} {limit}")
    assert_far(ravel(found[0].grads), shared_gradients(lambda t, u: 1)[0], "something is clipped")


def test_the_limit_does_not_depend_on_the_number_of_rows_and_on_the_scale_of_the_weights(x64):
    c, weights = case("small"), np.full((T, B), 1 / (T * B))
    run = quick_jit(estimate(small_step, Clipped(limit=0.5), batched=True))
    params, rows = c.params, (c.state, c.windows[0].xs)
    one = run(params, *rows, weights=weights)
    twice = [jax.tree.map(lambda a, n=n: np.concatenate([a, a], n), tree) for n, tree in enumerate(rows)]
    assert_close(run(params, *twice, weights=np.tile(weights / 2, 2)).grads, one.grads, "twice as many rows")
    scaled = run(params, *rows, weights=5 * weights)
    assert_close(scaled.grads, jax.tree.map(lambda a: 5 * np.asarray(a), one.grads), "weights times 5")


@pytest.mark.parametrize("by", ["norm", "value"])
def test_a_gradient_that_overflows_becomes_finite(by):
    """The state is 0, and its tangent grows tenfold at each of 200 steps: float32 ends at 3e38."""
    args = np.float32(1.0), np.zeros(1, np.float32), np.zeros((200, 1), np.float32)
    grads = quick_jit(estimate(lambda w, h, x: (10 * w * h, h), Clipped(by=by), (0, 1), batched=True))(*args).grads
    assert all(np.isfinite(a).all() for a in grads)


def test_the_limit_is_positive():
    with pytest.raises(seqjax.Error, match="limit"):
        Clipped(limit=0.0)
