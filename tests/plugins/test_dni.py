"""DNI from its equations, with a prediction that is right, and where it learns one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.parts import derivatives, derivatives_of, ravel

import seqjax as sj
from seqjax.gradients import DNI, Batch, Full, Memory, init_memory
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.calls import call
from seqjax.testing.proofs.cases import B, T, case
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.reverse.dni import Synthetic

pytestmark = pytest.mark.usefixtures("x64")


def shared(W):
    """A memory with this W, and nothing measured."""
    return Memory(shared=Synthetic(np.asarray(W), np.zeros(()), np.zeros(())))


def with_one(s):
    return np.append(s, 1.0)


@pytest.mark.parametrize("num_steps", [6, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("w", [0, 1])
def test_one_window_follows_the_equations(num_steps, w):
    """From a random W. One row is reset at the start of the window, and one has no scored loss."""
    c = case("small", num_steps)
    steps = derivatives_of("small") if num_steps == T else derivatives(c)
    d, state = steps[w], np.asarray((steps[w - 1].state if w else c.state)["h"])
    weights = np.array(c.windows[w].weights)
    weights[:, 3] = 0
    batch = c.windows[w]._replace(weights=weights)
    W, strategy = np.random.default_rng(0).normal(size=(2, 3)), DNI(rate=0.7, forget=0.25)

    grads, step, errors, targets = 0.0, np.zeros((2, 3)), 0.0, 0.0
    for b in range(B):
        scored = weights[:, b] != 0
        u = weights[scored, b].mean() if scored.any() else 0.0
        v = u * W @ with_one(np.asarray(d.state["h"])[b])
        for t in reversed(range(num_steps)):
            grads = grads + v @ d.I[b, t] + weights[t, b] * d.direct[b, t]
            v = v @ d.J[b, t] + weights[t, b] * d.q[b, t]
        grads = grads + v @ d.start[b]
        if u and not batch.reset[b]:
            before = with_one(state[b])
            error = v / u - W @ before
            step += np.outer(error, before) / (before @ before) / B
            errors, targets = errors + error @ error / B, targets + v @ v / u**2 / B

    e = call(strategy, c.problem, c.params, {"h": state}, shared(W), batch, None)
    assert_close((e.loss, ravel(e.grads), e.state), (np.sum(weights * d.losses.T), grads, d.state), "estimate")
    wanted = Synthetic(W + 0.7 * step, 0.25 * errors, 0.25 * targets)
    assert_close(e.memory.shared, wanted, "memory")
    (found,) = strategy.metrics(e.memory).values()
    assert_close(found, np.sqrt(errors / targets), "metric")


def test_the_metric_is_nan_until_a_target_is_not_zero():
    """The target is zero while no loss depends on the state that enters the window."""
    problem, strategy = sj.Problem(lambda w, s, x: (w * s, x[0] * s[0] ** 2)), DNI()

    @quick_jit
    def run(state, xs, memory):
        e = sj.estimate(problem, strategy, batched=True)(jnp.array(0.9), state, xs, memory=memory)
        return e.state, e.memory, strategy.metrics(e.memory)["gradient_synthetic_error"]

    state, memory, found = np.ones((2, 1)), shared(np.zeros((1, 2))), []
    for scale in (0.0, 0.0, 1.0):
        state, memory, error = run(state, np.full((3, 2, 1), scale), memory)
        found.append(float(error))
    assert np.isnan(found[:2]).all()
    assert found[2] == 1


def affine(params, s, x):
    """A state and a derivative of the loss that are affine in the state before the step."""
    new = params["M"] @ s + params["b"]
    return new, s @ params["Q"] @ s + params["r"] @ s + params["b"] @ s


def test_the_windows_add_up_to_the_sequence_if_c_is_right():
    """The gradient of the later losses is W [s, 1], with W from their second and first derivatives."""
    rng = np.random.default_rng(1)
    params = {"M": 0.5 * rng.normal(size=(2, 2)), "Q": rng.normal(size=(2, 2)), "b": rng.normal(size=2)}
    params |= {"r": rng.normal(size=2)}
    problem, start, (windows, T, rows) = sj.Problem(affine), rng.normal(size=(3, 2)), (4, 3, 3)
    weight = 1 / (windows * T * rows)

    def losses(params, s, counts):
        """The sum of the losses that count."""
        return counts @ jax.lax.scan(lambda s, _: affine(params, s, None), s, length=windows * T)[1]

    @quick_jit
    @functools.partial(jax.vmap, in_axes=(None, None, 0))
    def oracle(params, start, counts):
        """W, and the gradient of all rows."""
        zero, of_s = jnp.zeros(2), jax.grad(lambda s: losses(params, s, counts))
        W = jnp.concatenate([jax.jacobian(of_s)(zero), of_s(zero)[:, None]], 1)
        return W, jax.grad(lambda params: weight * jax.vmap(lambda s: losses(params, s, counts))(start).sum())(params)

    first = np.arange(1, 1 + windows)[:, None] * T > np.arange(windows * T)
    W, of_first = jax.tree.map(np.asarray, oracle(params, start, first.astype(float)))
    # After the first of the four windows those of three are left, and after the last one none.
    W = [*W[-2::-1], np.zeros((2, 3))]

    def add_up(W):
        state, grads = start, jax.tree.map(np.zeros_like, params)
        for each in W:
            batch = Batch(np.zeros((T, rows)), np.full((T, rows), weight), None, np.arange(rows, dtype=np.int32))
            e = call(DNI(), problem, params, state, shared(each), batch, None)
            state, grads = e.state, jax.tree.map(np.add, grads, e.grads)
        return grads

    want = jax.tree.map(lambda a: a[-1], of_first)
    assert_close(add_up(W), want, "the sum over windows")
    assert_far(add_up(np.zeros_like(W)), want, "without c")


def linear(params, s, x):
    new = jnp.array([[0.6, 0.3], [-0.4, 0.5]]) @ s + params * x
    return new, jnp.array([1.0, -2.0]) @ s


@pytest.mark.parametrize("num_steps", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_it_learns_the_gradient_of_a_loss_without_end(num_steps):
    """It is Σ_k a J^k = a (1 - J)^{-1} at every state, and does not depend on the number of losses."""
    params, rows, windows = np.array([0.5, -1.0]), 3, 1500
    xs = np.random.default_rng(2).normal(size=(windows, num_steps, rows))
    problem, strategy = sj.Problem(linear), DNI(rate=0.8)

    @quick_jit
    def learn(weight):
        def window(carry, x):
            batch = Batch(x, jnp.full(x.shape, weight), None, jnp.arange(rows, dtype=jnp.int32))
            e = strategy(problem, params, *carry, batch)
            return (e.state, e.memory), None

        state = jnp.zeros((rows, 2))
        start = state, init_memory(strategy, problem, params, state, rows)
        return jax.lax.scan(window, start, xs)[0][1].shared.W

    J, a = np.array([[0.6, 0.3], [-0.4, 0.5]]), np.array([1.0, -2.0])
    want = np.append(np.zeros((2, 2)), np.linalg.solve(np.eye(2) - J.T, a)[:, None], 1)
    assert_close(learn(1.0), want, "W", bound=1e-6)
    assert_close(learn(1e-6), learn(1.0), "W with smaller weights", bound=1e-9)


def tanh(params, s, x):
    s = jnp.tanh(params["w"] * s[::-1] + params["b"] * x)
    return s, s @ s + s[0]


TANH = sj.Problem(tanh, lambda params, key=None: jnp.sin(params["b"]))
reset_inside = quick_jit(sj.estimate(TANH, DNI(rate=0.5), batched=True))


@pytest.mark.parametrize("at", [2, pytest.param(0, marks=pytest.mark.slow)])
def test_a_reset_inside_of_a_window_is_the_end_of_what_c_predicts(at):
    """c(s_0) learns from the losses before the reset, and c(s_T) acts on the steps after it."""
    rng, T, rows = np.random.default_rng(3), 5, 2
    params = {name: rng.normal(size=2) for name in "wb"}
    state, xs, W = rng.normal(size=(rows, 2)), rng.normal(size=(T, rows)), rng.normal(size=(2, 3))
    weights, memory = np.full((T, rows), 0.1), shared(W)
    found = reset_inside(params, state, xs, weights=weights, memory=memory, reset=np.arange(T) == at)

    batch = Batch(xs[at:], weights[at:], np.ones(rows, bool), np.arange(rows, dtype=np.int32))
    later = call(DNI(rate=0.5), TANH, params, state, memory, batch, None)
    assert_close(later.memory.shared.W, W, "W after a window in which all rows are reset", bound=0)
    wanted, target = later.grads, np.zeros((rows, 2))
    if at:
        before = quick_jit(sj.estimate(TANH, Full(), argnums=(0, 1), batched=True))
        of_params, target = before(params, state, xs[:at], weights=weights[:at]).grads
        wanted = jax.tree.map(np.add, wanted, of_params)
    assert_close(found.grads, wanted, "the gradient")
    pairs = [(with_one(s), t / 0.1) for s, t in zip(state, np.asarray(target), strict=True)]
    step = sum(np.outer(t - W @ s, s) / (s @ s) for s, t in pairs) / rows
    assert_close(found.memory.shared.W, W + 0.5 * step, "W")
