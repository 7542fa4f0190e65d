"""Unrolled steps: edge weights multiply the tangent, and a loss depends on no later step and no other row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.checks import check_edge_weights

from seqjax.gradients.unrolling import unroll
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.cases import MAIN, B, T, case
from seqjax.testing.proofs.oracle import truth
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")


def quick(name):
    """All cases, of which one is in the quick suite."""
    return pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != name)) for n in MAIN])


@functools.partial(quick_jit, static_argnums=0)
def unrolled(problem, params, state, xs):
    return problem.unroll(params, state, xs)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAIN)
def test_edge_weights_scale_the_tangent_that_enters_a_step(name):
    check_edge_weights(case(name).problem, name)


@quick("learned")
def test_edge_weights_in_forward_mode(name):
    c, batch = case(name), case(name).windows[2]
    edge_weights = np.random.default_rng(8).uniform(-1, 2, (T, B))
    edge_weights[1, 0] = edge_weights[3] = 0
    direction = jax.tree.map(lambda a: jnp.asarray(np.cos(np.arange(a.size)).reshape(a.shape)), c.params)
    state = truth(name, 0, 2).state

    @quick_jit
    def slope(params):
        def loss(params):
            start = c.problem.start(params, state, batch.reset)
            _, losses = unroll(functools.partial(c.problem.step, params), start, batch.xs, jnp.asarray(edge_weights))
            return jnp.sum(batch.weights * losses)

        return jax.jvp(loss, (params,), (direction,))

    want = truth(name, 2, 3, edge_weights)
    wanted = sum(np.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (want.grads, direction)), strict=True))
    assert_close(slope(c.params), (want.loss, wanted), "forward mode")


@pytest.mark.slow
@pytest.mark.parametrize("name", MAIN)
def test_two_chunks_are_one_long_unroll(name):
    c, xs = case(name), case(name).windows[0].xs
    first, second = jax.tree.map(lambda a: a[: T // 2], xs), jax.tree.map(lambda a: a[T // 2 :], xs)
    state, losses = unrolled(c.problem, c.params, c.state, first)
    state, more = unrolled(c.problem, c.params, state, second)
    assert_close((state, jnp.concatenate([losses, more])), unrolled(c.problem, c.params, c.state, xs), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAIN)
def test_a_loss_depends_on_nothing_later_and_on_no_other_row(name):
    c, xs = case(name), case(name).windows[0].xs
    _, before = unrolled(c.problem, c.params, c.state, xs)
    for t in range(T):
        changed = jax.tree.map(lambda a, t=t: a.at[t, 1].set(a[t - 1, 0]), xs)
        _, after = unrolled(c.problem, c.params, c.state, changed)
        elsewhere = np.delete(np.arange(B), 1)
        assert_close((after[:t, 1], after[:, elsewhere]), (before[:t, 1], before[:, elsewhere]), f"x[{t}]", 0)
        assert_far(after[t, 1], before[t, 1], f"x[{t}]", 1e-6)
