"""UORO from its equations, and by enumeration of all signs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.parts import derivatives_of, ravel

import seqjax
from seqjax.gradients import UORO, Memory
from seqjax.gradients.contract.rows import reset_rows
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.calls import initial_memory
from seqjax.testing.proofs.cases import B, T, case
from seqjax.testing.proofs.claims import check_unbiased_history
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

S, P = 2, 4
"""The numbers of the state and of the parameters of the problem "small"."""


@pytest.mark.slow
def test_all_signs_average_to_the_gradient_of_the_history():
    check_unbiased_history(UORO(), ["small"])


@functools.partial(quick_jit, static_argnums=0)
def estimate(strategy, state, memory, batch, signs):
    """The estimate of a window of the problem "small", with the signs that each row has drawn."""
    c = case("small")
    start, memory = reset_rows(strategy, c.problem, c.params, state, memory, batch.reset)
    return strategy.estimate(c.problem, c.params, start, memory, batch, signs)


def test_one_draw_follows_the_equations():
    """From a random memory, in a window in which one row starts anew."""
    c, rng = case("small"), np.random.default_rng(3)
    batch, d = c.windows[0], derivatives_of("small")[0]
    noise, weights = rng.random((B, 1 + T, S)) < 0.5, np.asarray(batch.weights)
    s_tilde, theta_tilde = rng.normal(size=(B, S)), rng.normal(size=(B, P))
    of_params = dict(zip("bw", np.split(theta_tilde, 2, 1), strict=True))
    memory = jax.tree.map(lambda a: a[:, None], Memory(rows=(s_tilde, of_params)))
    e = estimate(UORO(), c.state, memory, batch, noise[:, None])
    norm = np.linalg.norm
    root = lambda a, b: np.sqrt((a + 1e-7) / (b + 1e-7))
    want, rows = 0.0, []
    for b in range(B):
        u, t = (0 * s_tilde[b], 0 * theta_tilde[b]) if batch.reset[b] else (s_tilde[b], theta_tilde[b])
        size = norm(t)
        for i in range(1 + T):
            I, J = (d.start[b], np.eye(S)) if i == 0 else (d.I[b, i - 1], d.J[b, i - 1])
            if i:
                want = want + weights[i - 1, b] * (d.q[b, i - 1] @ u * t + d.direct[b, i - 1])
            nu = np.where(noise[b, i], 1, -1)
            u, w = J @ u, nu @ I
            rho_0, rho_1 = root(size, norm(u)), root(norm(w), norm(nu))
            u, t = rho_0 * u + rho_1 * nu, t / rho_0 + w / rho_1
            # In the window the norm is its mean over the signs; at the start it is that of θ̃ itself.
            size = np.hypot(size / rho_0, norm(w) / rho_1) if i else norm(t)
        rows.append((u, t))
    assert_close(ravel(e.grads), want, "gradient", 1e-11)
    u, t = jax.tree.map(lambda a: np.asarray(a)[:, 0], e.memory.rows)
    found = u, np.concatenate([t["b"], t["w"]], 1)
    assert_close(found, tuple(map(np.stack, zip(*rows, strict=True))), "memory", 1e-11)


def test_a_rank_is_the_mean_of_as_many_products():
    """Each with signs and a memory of its own."""
    c, rng = case("small"), np.random.default_rng(0)

    def run(strategy, noise):
        memory, state, found = initial_memory(strategy, c.problem, c.params, c.state), c.state, []
        for batch, signs in zip(c.windows, noise, strict=True):
            e = estimate(strategy, state, memory, batch, signs)
            state, memory = e.state, e.memory
            found.append((e.loss, ravel(e.grads), e.state))
        return found

    noise = rng.random((3, B, 2, 1 + T, S)) < 0.5
    one, other = (run(UORO(), noise[:, :, i : i + 1]) for i in range(2))
    want = [(a[0], (a[1] + b[1]) / 2, a[2]) for a, b in zip(one, other, strict=True)]
    assert_close(run(UORO(rank=2), noise), want, "rank 2")
    assert np.abs(one[2][1] - other[2][1]).max() > 1e-3


def test_signs_are_balanced_and_independent():
    c = case("small")
    memory = initial_memory(UORO(), c.problem, c.params, c.state)
    row = memory._replace(rows=jax.tree.map(lambda a: np.asarray(a)[0], memory.rows))

    @quick_jit
    def draws(key):
        draw = lambda key: UORO().draw(key, c.problem, c.params, row, 3)
        return jax.vmap(draw)(jax.random.split(key, 4000))

    signs = np.where(draws(jax.random.key(0)), 1.0, -1.0).reshape(4000, -1)
    assert signs.shape == (4000, 4 * S)
    z = np.abs(signs.T @ signs - 4000 * np.eye(4 * S)) / np.sqrt(4000)  # products of different signs average to 0
    assert float(z.max()) < 6
    assert float(np.abs(signs.sum(0)).max()) < 6 * np.sqrt(4000)


def test_too_many_signs_are_not_listed():
    with pytest.raises(NotImplementedError, match=r"2\^22 patterns"):
        UORO().outcomes(None, None, Memory(rows=(np.zeros((1, S)), ())), 10)


def test_parameters_of_two_precisions_keep_them():
    def step(params, h, x):
        h = jnp.tanh(params["a"] * h + params["b"].astype(h.dtype) * x)
        return h, h * h

    params = {"a": np.array(0.7), "b": np.array(0.9, jnp.bfloat16)}
    args = params, np.full(2, 0.3), np.ones((4, 2))
    run = seqjax.estimate(step, UORO(), batched=True)
    grads = jax.eval_shape(lambda *args: run(*args, key=jax.random.key(0)).grads, *args)
    assert [grads[name].dtype for name in "ab"] == [params[name].dtype for name in "ab"]
