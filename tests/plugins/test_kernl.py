"""KeRNL from its equations, on networks whose kernel it can represent, and with resets."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.parts import derivatives, ravel

import seqjax as sj
from seqjax.gradients import Batch, init_memory, ravel_float, reset_rows
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.cases import Case
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import RFLO, RTRL, KeRNL
from seqjax_gradients.kernl import Kernel
from seqjax_models import RNN

pytestmark = pytest.mark.usefixtures("x64")

T, B, H = 4, 2, 3
VALUES = sj.Spec(sj.Values(2))


@dataclass(frozen=True)
class Leaky(sj.Elementwise):
    """h = keep h + u: the kernel of unit i is keep_i^k, and units do not act on each other."""

    def init_cell(self, key):
        return {"keep": jnp.linspace(0.3, 0.9, self.hidden)}

    def cell(self, u, state, keep):
        return self.State(keep * state.h + u)


def of_model(model, num_windows=3, scale=0.6, num_steps=T):
    """A case with parameters and states that are not zero."""
    rng, problem = np.random.default_rng(0), model.problem(VALUES)
    random = lambda a: jnp.asarray(rng.normal(size=a.shape, scale=scale))
    params = jax.tree.map(random, jax.eval_shape(problem.init, jax.random.key(0)))
    state = jax.tree.map(random, jax.eval_shape(lambda: problem.init_rows(params, B)))
    windows = []
    for w in range(num_windows):
        xs = tuple(jnp.asarray(rng.normal(size=(num_steps, B, 2))) for _ in range(2))
        weights = rng.uniform(size=(num_steps, B))
        weights[1, 0] = 0
        if w == 1:  # the row is padded
            weights[2:, 1] = 0
        if w == 2:
            weights[:, 0] = 0
        reset = jnp.array([w == 0, w < 2])
        windows.append(Batch(xs, jnp.asarray(weights), reset, jnp.arange(B, dtype=jnp.int32)))
    return Case(problem, params, state, windows, problem.step, problem.init_state)


def random_memory(c, strategy, out_of_range=False):
    """The memory of a new row, with another kernel; two of the γ may be outside of [0, 1]."""
    rng = np.random.default_rng(1)
    memory = init_memory(strategy, c.problem, c.params, c.state, B)
    S = len(memory.shared.gamma)
    gamma = rng.uniform(0.1, 0.9, S)
    if out_of_range:
        gamma[:2] = -0.2, 1.3
    A = np.eye(S) + 0.3 * rng.normal(size=(S, S))
    return memory._replace(shared=Kernel(jnp.asarray(A), jnp.asarray(gamma)))


def with_noise(strategy, problem, params, state, memory, batch, noise):
    """The estimate of a window, with the signs that each row has drawn."""
    start, memory = reset_rows(strategy, problem, params, state, memory, batch.reset)
    return strategy.estimate(problem, params, start, memory, batch, noise)


estimate = functools.partial(quick_jit, static_argnums=(0, 1))(with_noise)


def by_hand(c, strategy, kernel, noises):
    """The estimates of all windows, with M = A B dense: a loop over rows and steps."""
    (A, gamma), found, carried, step = map(np.asarray, kernel), [], [None] * B, quick_jit(c.step)
    states = c.state
    vector = lambda state, b: np.asarray(ravel_float(jax.tree.map(lambda a: a[b], state))[0])
    _, _, join = ravel_float(jax.tree.map(lambda a: a[0], c.state))
    initial = np.asarray(ravel_float(c.initial(c.params))[0])
    for d, batch, noise in zip(derivatives(c), c.windows, noises, strict=True):
        grads, weights, gamma = 0.0, np.asarray(batch.weights), np.clip(gamma, 0, 1)
        dA, dgamma = np.zeros_like(A), np.zeros_like(gamma)
        for b in range(B):
            s = initial if batch.reset[b] else vector(states, b)
            if carried[b] is None or batch.reset[b]:
                carried[b] = np.zeros(d.I.shape[2:]), s, np.zeros_like(s), np.zeros_like(s)
            trace, copy, omega, slope = carried[b]
            for t in range(T):
                x = jax.tree.map(lambda a, t=t, b=b: a[t, b], batch.xs)
                grads = grads + weights[t, b] * (d.q[b, t] @ A @ trace + d.direct[b, t])
                trace = (1 - gamma)[:, None] * trace + d.I[b, t]
                zeta = np.where(noise[b, t], 1.0, -1.0)
                s, copy = (np.asarray(ravel_float(step(c.params, join(v, []), x)[0])[0]) for v in (s, copy))
                copy = copy + strategy.sigma * zeta
                slope = (1 - gamma) * slope - omega
                omega = (1 - gamma) * omega + zeta
                if not weights[t:, b].any():
                    continue
                e = A @ omega - (copy - s) / strategy.sigma
                dA += np.outer(e, omega) / (1 + omega @ omega) / (T * B)
                dgamma += A.T @ e * slope / (1 + np.linalg.norm(A * slope) ** 2) / (T * B)
            carried[b] = trace, copy, omega, slope
        A, gamma = A - strategy.rate * dA, gamma - strategy.rate * dgamma
        rows = tuple(np.stack(each) for each in zip(*carried, strict=True))[1:]
        found.append((np.sum(weights * d.losses.T), grads, d.state, (A, gamma), rows))
        states = d.state
    return found


@pytest.mark.parametrize("name", ["rnn", *(pytest.param(n, marks=pytest.mark.slow) for n in ("lstm", "gru", "lru"))])
def test_three_windows_follow_the_equations(name):
    c, strategy = of_model(sj.create("model", name, hidden=H)), KeRNL(rate=0.6, sigma=0.01)
    memory, state = random_memory(c, strategy, out_of_range=True), c.state
    noises = np.random.default_rng(2).random((3, B, T, memory.rows.omega.shape[1])) < 0.5
    wanted = by_hand(c, strategy, memory.shared, noises)
    for batch, noise, want in zip(c.windows, noises, wanted, strict=True):
        e = estimate(strategy, c.problem, c.params, state, memory, batch, jnp.asarray(noise))
        state, memory = e.state, e.memory
        found = e.loss, ravel(e.grads), state, tuple(memory.shared), tuple(memory.rows[1:])
        assert_close(found, want, name, bound=1e-9)
        assert_close(found[:3], want[:3], name, bound=1e-11)


def test_it_is_exact_and_learns_nothing_where_its_kernel_is_right():
    """For all patterns of signs in a first window, and after some of them in a second one."""
    c, strategy = of_model(Leaky(hidden=2), num_steps=3), KeRNL()
    c.params["layer_0"]["cell"]["keep"] = keep = jnp.array([0.3, 0.8])
    right = Kernel(jnp.eye(2), 1 - keep)
    memory = init_memory(strategy, c.problem, c.params, c.state, B)._replace(shared=right)
    exact, state = init_memory(RTRL(), c.problem, c.params, c.state, B), c.state
    patterns, probabilities = strategy.outcomes(
        c.problem, c.params, memory._replace(rows=memory.rows._replace(omega=right.gamma)), 3
    )
    assert patterns.shape == (64, 3, 2)
    assert_close(probabilities, np.full(64, 1 / 64), "probabilities")
    for w in (0, 2):
        batch = c.windows[w]._replace(reset=jnp.zeros(B, bool))
        want = estimate(RTRL(), c.problem, c.params, state, exact, batch, ())

        def one(noise, state=state, memory=memory, batch=batch):
            return with_noise(strategy, c.problem, c.params, state, memory, batch, jnp.stack([noise, ~noise]))

        every = quick_jit(jax.vmap(one))(jnp.asarray(patterns))
        of_all = lambda tree: jax.tree.map(lambda a: jnp.stack([a] * 64), tree)
        assert_close(every.grads, of_all(want.grads), "the gradient")
        assert_close(every.memory.shared, of_all(right), "the kernel")
        state, memory, exact = want.state, jax.tree.map(lambda a: a[37], every.memory), want.memory


def stream(strategy, c, memory, num_windows):
    """The memory after many windows, and the gradients [N, ...]."""
    rng, (inputs, targets) = np.random.default_rng(5), c.windows[0].xs
    xs = tuple(jnp.asarray(rng.normal(size=(num_windows, *a.shape))) for a in (inputs, targets))
    weights = jnp.full(inputs.shape[:2], 1 / (T * B))

    def window(carry, inputs):
        i, x = inputs
        batch = Batch(x, weights, jnp.zeros(B, bool), jnp.arange(B, dtype=jnp.int32))
        key = jax.random.fold_in(jax.random.key(0), i)
        e = strategy(c.problem, c.params, *carry, batch, key)
        return (e.state, e.memory), e.grads

    run = quick_jit(lambda memory: jax.lax.scan(window, (c.state, memory), (jnp.arange(num_windows), xs)))
    (_, memory), grads = run(memory)
    return memory, grads


def test_it_learns_a_kernel_that_it_can_represent():
    """A becomes the identity, and each γ what its unit loses in a step."""
    c, strategy = of_model(Leaky(hidden=H)), KeRNL(rate=0.9)
    c.params["layer_0"]["cell"]["keep"] = jnp.array([0.2, 0.5, 0.8])
    memory, _ = stream(strategy, c, random_memory(c, strategy), 2000)
    assert_close(memory.shared, Kernel(jnp.eye(H), jnp.array([0.8, 0.5, 0.2])), "the kernel", bound=1e-4)


@pytest.mark.slow
def test_on_a_network_whose_units_act_on_each_other_the_error_falls():
    """The kernel that it learns is better than the first one, by the gradient of the history."""
    c, strategy = of_model(RNN(hidden=8), scale=0.3), KeRNL()
    learned, _ = stream(strategy, c, init_memory(strategy, c.problem, c.params, c.state, B), 1500)
    exact = ravel(jax.tree.map(lambda a: a.sum(0), stream(RTRL(), c, init_memory(RTRL(), *c[:3], B), 500)[1]))

    def error(shared):
        new = init_memory(strategy, c.problem, c.params, c.state, B)._replace(shared=shared)
        found = ravel(jax.tree.map(lambda a: a.sum(0), stream(KeRNL(rate=0.0), c, new, 500)[1]))
        return np.linalg.norm(found - exact) / np.linalg.norm(exact)

    first = init_memory(strategy, c.problem, c.params, c.state, B).shared
    assert error(learned.shared) < 0.7 * error(first)


def given(noise, **fields):
    """KeRNL whose rows draw this noise."""

    class Given(KeRNL):
        def draw(self, key, problem, params, memory, num_steps):
            return noise

    return Given(**fields)


@pytest.mark.parametrize("at", [0, 2])
def test_a_reset_inside_of_a_window_begins_anew(at):
    """A window with a reset is that of its pieces, and the second piece starts with a new copy and new traces."""
    c = of_model(RNN(hidden=H))
    rng, state, key = np.random.default_rng(4), c.state, jax.random.key(0)
    memory = random_memory(c, KeRNL())
    noise = jnp.asarray(rng.random((T, H)) < 0.5)
    first, second = (jax.tree.map(lambda a, w=w: a, c.windows[w].xs) for w in (0, 1))
    weights = jnp.asarray(rng.uniform(size=(T, B)))

    def run(xs, noise, state, memory, weights, **more):
        gradient = quick_jit(sj.value_and_grad(c.problem, given(noise, rate=0.4)))
        return gradient(c.params, state, xs, memory=memory, weights=weights, key=key, **more)

    e = run(first, noise, state, memory, weights)
    state, memory = e.state, e.memory
    found = run(second, noise, state, memory, weights, reset=jnp.arange(T) == at)

    cut = lambda tree, piece: jax.tree.map(lambda a: a[piece], tree)
    pieces = [slice(0, at), slice(at, T)] if at else [slice(T)]
    initial = c.problem.init_rows(c.params, B)
    new = init_memory(KeRNL(), c.problem, c.params, initial, B)._replace(shared=memory.shared)
    starts = [(state, memory), (initial, new)][-len(pieces) :]
    parts = [run(cut(second, p), noise[p], *start, weights[p]) for p, start in zip(pieces, starts, strict=True)]
    assert_close(found.grads, jax.tree.map(lambda *a: sum(a), *[part.grads for part in parts]), "the gradient")
    assert_close(found.memory.rows, parts[-1].memory.rows, "what rows carry")
    shares = [(p.stop - (p.start or 0)) / T for p in pieces]
    clipped = memory.shared._replace(gamma=jnp.clip(memory.shared.gamma, 0, 1))
    moved = jax.tree.map(
        lambda old, *new: old + sum(share * (a - old) for share, a in zip(shares, new, strict=True)),
        clipped,
        *[part.memory.shared for part in parts],
    )
    assert_close(found.memory.shared, moved, "the kernel", bound=1e-10)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("name", ["rnn", pytest.param("lstm", marks=pytest.mark.slow)])
def test_before_it_learns_it_is_rflo(name, reset):
    c = of_model(sj.create("model", name, hidden=H))
    resets = {"reset": jnp.arange(T) == 2} if reset else {}
    found = {}
    for strategy in (KeRNL(gamma=0.3), RFLO(leak=0.3)):
        gradient = quick_jit(sj.value_and_grad(c.problem, strategy))
        e = gradient(c.params, c.state, c.windows[0].xs, weights=c.windows[0].weights, key=jax.random.key(0), **resets)
        found[type(strategy)] = e.loss, e.grads, e.state
    assert_close(found[KeRNL], found[RFLO], name)


def test_the_kernel_depends_on_the_signs_and_the_gradient_on_the_kernel():
    c, strategy = of_model(RNN(hidden=H)), KeRNL()
    memory = init_memory(strategy, c.problem, c.params, c.state, B)
    once, again, other = (
        estimate(strategy, c.problem, c.params, c.state, memory, c.windows[0], jnp.asarray(noise))
        for noise in (
            np.ones((B, T, H), bool),
            np.ones((B, T, H), bool),
            np.arange(B * T * H).reshape(B, T, H) % 2 == 0,
        )
    )
    assert_close(once, again, "the same signs", bound=0)
    assert_far(other.memory.shared, once.memory.shared, "the kernel after other signs")
    grads = [
        estimate(strategy, c.problem, c.params, e.state, e.memory, c.windows[2], np.ones((B, T, H), bool)).grads
        for e in (once, other)
    ]
    assert_far(grads[1], grads[0], "the gradient after other signs", at_least=1e-6)


@pytest.mark.parametrize(
    ("scored", "trains"),
    [([0, 0, 0, 0], False), ([0, 1, 0, 0], False), ([1, 1, 0, 1], True), ([0, 0, 0, 1], True)],
    ids=["a row", "the end of a row", "between scored steps", "before a scored step"],
)
def test_padding_does_not_train_the_kernel(scored, trains):
    """A step without a score trains it if a later step of the row in this window is scored."""
    c, strategy = of_model(RNN(hidden=H)), KeRNL()
    memory, noise = random_memory(c, strategy), jnp.ones((B, T, H), bool)
    batch = c.windows[0]._replace(weights=c.windows[0].weights.at[:, 1].set(jnp.array(scored, float)))
    xs = jax.tree.map(lambda a: a.at[2, 1].add(1.0), batch.xs)
    one, two = (
        estimate(strategy, c.problem, c.params, c.state, memory, each, noise) for each in (batch, batch._replace(xs=xs))
    )
    if trains:
        assert_far(two.memory.shared, one.memory.shared, "the kernel", at_least=1e-6)
    else:
        assert_close(two.memory.shared, one.memory.shared, "the kernel", bound=0)


@pytest.mark.parametrize("fields", [{"embedding": 2}, {"layers": 2}], ids=repr)
def test_a_network_whose_parameters_feed_many_units_is_refused(fields):
    spec = sj.Spec(sj.Tokens(5))
    problem = RNN(hidden=H, **fields).problem(spec)
    params = problem.init(jax.random.key(0))
    with pytest.raises(sj.Error, match=r"KeRNL\(.*\) takes a `Cell` or `Elementwise` of one layer"):
        init_memory(KeRNL(), problem, params, problem.init_rows(params, B), B)


def test_any_other_step_is_refused():
    gradient = sj.value_and_grad(lambda w, s, x: (w * s + x, s**2), KeRNL())
    with pytest.raises(sj.Error, match="use rtrl or snap, which take any step"):
        gradient(jnp.array(0.5), jnp.zeros(B), jnp.ones((T, B)), key=jax.random.key(0))


def test_an_unscored_loss_may_be_nan():
    """Neither the gradient nor the kernel reads it."""
    c, strategy = of_model(RNN(hidden=H)), KeRNL()
    memory, noise = random_memory(c, strategy), jnp.ones((B, T, H), bool)
    inputs, targets = c.windows[0].xs
    nan = c.windows[0]._replace(xs=(inputs, targets.at[1, 0].set(jnp.nan)))
    found, want = (
        estimate(strategy, c.problem, c.params, c.state, memory, batch, noise) for batch in (nan, c.windows[0])
    )
    assert_close(found, want, "the estimate")
