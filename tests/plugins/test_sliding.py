"""Each loss differentiated through its last K steps, against stop_gradient in a Python loop and against `lags`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Problem, Spec, Tokens
from seqjax.gradients import Memory
from seqjax.testing.proofs.cases import B, T, case
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import Full, Sliding
from seqjax_models import RNN

pytestmark = pytest.mark.usefixtures("x64")


def by_stopping(c, window, steps):
    """For each loss the steps are run again, with parameters that are constants before its last K steps."""

    def total(params):
        loss = 0.0
        for b in range(B):
            for t in range(T):
                s = jax.tree.map(lambda a, b=b: a[b], c.state)
                for i in range(-1, t + 1):
                    here = params if i > t - steps else jax.lax.stop_gradient(params)
                    if i < 0:
                        s = c.initial(here) if window.reset[b] else s
                    else:
                        s, step_loss = c.step(here, s, jax.tree.map(lambda a, i=i, b=b: a[i, b], window.xs))
                loss = loss + window.weights[t, b] * step_loss
        return loss

    return jax.grad(total)(c.params)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("learned", 1),
        ("learned", 3),
        pytest.param("foreign", 2, marks=pytest.mark.slow),
        pytest.param("foreign", T + 1, marks=pytest.mark.slow),
    ],
)
def test_by_stopping_the_gradient(name, steps):
    """Some rows are reset: their learned initial state lies one step before the first step."""
    c = case(name)
    window = c.windows[0]
    memory = Memory()
    call = quick_jit(lambda params: Sliding(steps=steps)(c.problem, params, c.state, memory, window, jax.random.key(0)))
    got = call(c.params).grads
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(by_stopping(c, window, steps)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


@pytest.mark.parametrize("steps", [4, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (1, 13, 40))])
def test_it_is_a_prefix_sum_of_lags(steps):
    problem = Problem.of(RNN(hidden=5), Spec(Tokens(6)))
    params = problem.model.init(jax.random.key(0), problem.spec)
    params = jax.tree.map(lambda a: a + 0.3, params)
    ids = jax.random.randint(jax.random.key(1), (13, 2), 0, 6)
    xs, state = (ids[:-1], ids[1:]), jax.vmap(lambda _: problem.init_state(params))(jnp.arange(2))
    found = seqjax.lags(problem, params, state, xs, 12)
    got, full = (
        quick_jit(seqjax.value_and_grad(problem, strategy))(params, state, xs)
        for strategy in (Sliding(steps=steps), Full())
    )
    want = jax.tree.map(lambda a: a[:steps].sum(0), found.gradients)
    for a, b in zip(*map(jax.tree.leaves, (got.grads, want)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
    W_hh, other = (grads["layer_0"]["W_hh"] for grads in (got.grads, full.grads))
    assert np.allclose(W_hh, other, rtol=0, atol=1e-14) == (steps >= 12)
    assert float(got.loss) == pytest.approx(float(full.loss), rel=1e-14)
