"""Slopes along directions: of unit vectors, of given ones, and of the estimate of another strategy."""

import jax
import numpy as np
import pytest
from support.parts import ravel, shared_gradients

import seqjax
from seqjax import estimate
from seqjax.gradients import Directional, Dodge, Memory, Truncated
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.calls import estimates
from seqjax.testing.proofs.cases import B, case, small_step
from seqjax.testing.quick_jit import quick_jit


def test_given_directions_project_the_gradient(x64):
    """Orthonormal directions; they are like the float leaves of the parameters, whatever the step returns besides."""
    c, rows = case("small"), slice(2, B)  # no sequence starts in these
    xs, weights = jax.tree.map(lambda a: np.asarray(a)[:, rows], (c.windows[0].xs, c.windows[0].weights))
    D = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 3)))[0].T
    directions = dict(zip("bw", np.split(D, 2, 1), strict=True))

    def step(params, state, x):
        state, loss = small_step({name: params[name] for name in "bw"}, state, x)
        return state, (loss, state)

    @quick_jit
    def run(params, directions):
        params, memory = params | {"n": 3}, Memory(shared=directions | {"n": None})
        along = estimate(step, Directional(), has_aux=True, batched=True)
        found = along(params, {"h": np.asarray(c.state["h"])[rows]}, xs, memory=memory, weights=weights)
        return {name: found.grads[name] for name in "bw"}, found.memory.shared

    grads, kept = run(c.params, directions)
    full = shared_gradients(lambda t, u: 1, rows=rows)[0]
    assert_close(ravel(grads), D.T @ D @ full, "projection")
    assert_close(ravel(kept), ravel(directions), "the directions are kept", 0)


def test_many_parameters_need_directions():
    with pytest.raises(seqjax.Error, match=r"10,000 parameters have too many unit vectors \(at most 4,096\)"):
        estimate(lambda p, s, x: (s, p @ p), Directional(), batched=True)(np.ones(10_000), np.ones(1), np.ones((2, 1)))


@pytest.mark.parametrize("steps", [2, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (1, 9))])
def test_the_slope_is_exact_and_the_direction_of_each_row_is_that_of_the_guide(steps, x64):
    want = 0.0
    for b in range(B):
        full, guide = (
            np.array(shared_gradients(share, rows=[b]))
            for share in (lambda t, u: 1, lambda t, u: t // steps == max(u, 0) // steps)
        )
        unit = guide / np.linalg.norm(guide, axis=1, keepdims=True)
        want = want + np.sum(full * unit, 1, keepdims=True) * unit
    found = estimates(Dodge(strategy=Truncated(steps=steps)), case("small"))
    assert_close([ravel(e.grads) for e in found], [*want], f"{steps} steps")


def test_no_gradient_is_no_direction():
    run = quick_jit(estimate(lambda p, s, x: (s, 0 * p), Dodge(), batched=True))
    assert run(np.float32(2), np.ones(1, np.float32), np.ones((3, 1), np.float32)).grads == 0
