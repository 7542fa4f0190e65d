"""`sparse-rtrl` against its definition, step by step, and against `rtrl`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import seqjax
from seqjax_gradients import RTRL, SparseRTRL
from seqjax_models import GRU, LSTM, RNN

pytestmark = pytest.mark.usefixtures("x64")
ROWS, STEPS = 2, 6


def drawn(model):
    """A problem with its parameters, a state, and the inputs and targets of six steps."""
    problem = model.problem(seqjax.Spec(seqjax.Values(2)))
    params = jax.tree.map(lambda a: 1.5 * a.astype(float), problem.init(jax.random.key(0)))
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(2, STEPS, ROWS, 2))
    return problem, params, problem.init_rows(params, ROWS), (xs[0], xs[1])


def by_definition(problem, params, state, xs, mask):
    """Σ_t dl_t/dθ over all rows, from M_t = (mask ∘ J_t) M_{t-1} + I_t with whole Jacobians."""
    theta, unravel = ravel_pytree(params)
    total = jnp.zeros_like(theta)
    for row in range(ROWS):
        s, unravel_state = ravel_pytree(jax.tree.map(lambda a, row=row: a[row], state))
        M = jnp.zeros((s.size, theta.size))
        for t in range(STEPS):
            x = (xs[0][t, row], xs[1][t, row])

            def step(theta, s, x=x, unravel_state=unravel_state):
                state, loss = problem.step(unravel(theta), unravel_state(s), x)
                return ravel_pytree(state)[0], loss

            l_theta, q = jax.grad(lambda theta, s: step(theta, s)[1], (0, 1))(theta, s)
            I, J = jax.jacobian(lambda theta, s: step(theta, s)[0], (0, 1))(theta, s)
            total += q @ M + l_theta
            M, s = jnp.where(mask, J, 0) @ M + I, step(theta, s)[0]
    return total


@pytest.mark.parametrize(
    "model", [RNN(hidden=5, initializer="uniform"), GRU(hidden=4), LSTM(hidden=3)], ids=["rnn", "gru", "lstm"]
)
def test_two_windows_give_the_gradient_of_the_definition(model):
    problem, params, state, xs = drawn(model)
    strategy = SparseRTRL(paths=2, seed=3)
    estimate = seqjax.value_and_grad(problem, strategy)
    first = estimate(params, state, jax.tree.map(lambda a: a[:3], xs))
    second = estimate(params, first.state, jax.tree.map(lambda a: a[3:], xs), memory=first.memory)
    found = ravel_pytree(jax.tree.map(jnp.add, first.grads, second.grads))[0]
    size = ravel_pytree(state)[0].size // ROWS
    expected = by_definition(problem, params, state, xs, strategy.mask(size)) / (3 * ROWS)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    exact = by_definition(problem, params, state, xs, np.ones((size, size))) / (3 * ROWS)
    assert np.linalg.norm(exact - expected) > 1e-3 * np.linalg.norm(exact), "the mask changes the gradient"


def test_the_influence_on_a_learned_initial_state_is_masked_from_its_first_step_on():
    def step(params, s, x):
        s = jnp.tanh(params["W"] @ s + x)
        return s, jnp.sum(s**2)

    keys = jax.random.split(jax.random.key(0), 4)
    params = {"W": jax.random.normal(keys[0], (3, 3)), "h": jax.random.normal(keys[1], (3,))}
    xs, reset, strategy = jax.random.normal(keys[2], (4, 3)), [True, False, True, False], SparseRTRL(paths=1)
    theta, unravel = ravel_pytree(params)
    expected, s, M = 0.0, None, None
    for x, anew in zip(xs, reset, strict=True):
        if anew:
            s, M = params["h"], jax.jacobian(lambda theta: unravel(theta)["h"])(theta)
        by_theta, q = jax.grad(lambda theta, s, x=x: step(unravel(theta), s, x)[1], (0, 1))(theta, s)
        I, J = jax.jacobian(lambda theta, s, x=x: step(unravel(theta), s, x)[0], (0, 1))(theta, s)
        expected += (q @ M + by_theta) / 4
        M, s = jnp.where(strategy.mask(3), J, 0) @ M + I, step(params, s, x)[0]
    problem = seqjax.Problem(step, lambda params, key=None: params["h"])
    estimate = seqjax.value_and_grad(problem, strategy, batched=False)
    found = estimate(params, jnp.ones(3), xs, reset=jnp.array(reset))
    np.testing.assert_allclose(ravel_pytree(found.grads)[0], expected, atol=1e-14)


def test_with_all_paths_it_is_rtrl():
    problem, params, state, xs = drawn(GRU(hidden=4))
    exact, found = (seqjax.value_and_grad(problem, each)(params, state, xs) for each in (RTRL(), SparseRTRL(paths=4)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), found.grads, exact.grads)


@pytest.mark.parametrize(("paths", "size"), [(1, 6), (4, 64), (9, 3)])
def test_each_row_of_the_mask_has_its_number_of_paths_at_random_places(paths, size):
    mask = SparseRTRL(paths=paths).mask(size)
    assert mask.sum(1).tolist() == [min(paths, size)] * size
    if paths < size:
        assert (mask != SparseRTRL(paths=paths, seed=1).mask(size)).any()
        assert len({tuple(row) for row in mask.tolist()}) > 1
