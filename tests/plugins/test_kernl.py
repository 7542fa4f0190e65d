"""KeRNL from its equations, on networks whose kernel it can represent, and with resets."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.parts import derivatives, ravel

import seqjax as sj
from seqjax.gradients import RFLO, RTRL, Batch, KeRNL, init_memory
from seqjax.gradients.contract.rows import reset_rows
from seqjax.models import RNN
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.cases import Case
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.influence.kernl import Kernel

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


def of_model(model, scale=0.6, num_steps=T):
    """A case with parameters and states that are not zero."""
    rng, problem = np.random.default_rng(0), model.problem(VALUES)
    random = lambda a: rng.normal(size=a.shape, scale=scale)
    params = jax.tree.map(random, jax.eval_shape(problem.init, jax.random.key(0)))
    state = jax.tree.map(random, jax.eval_shape(lambda: problem.init_rows(params, B)))
    windows = []
    for w in range(3):
        xs = tuple(rng.normal(size=(num_steps, B, 2)) for _ in range(2))
        weights = rng.uniform(size=(num_steps, B))
        weights[1, 0] = 0
        if w == 1:  # the row is padded
            weights[2:, 1] = 0
        if w == 2:
            weights[:, 0] = 0
        windows.append(Batch(xs, weights, np.array([w == 0, w < 2]), np.arange(B, dtype=np.int32)))
    return Case(problem, params, state, windows, problem.step, problem.init_state)


@functools.partial(quick_jit, static_argnums=(0, 1))
def initial(strategy, problem, params, state):
    """The memory of rows that start in this state, or in the initial one, and the latter."""
    state = problem.init_rows(params, B) if state is None else state
    return init_memory(strategy, problem, params, state, B), state


def new_memory(strategy, c):
    return initial(strategy, c.problem, c.params, c.state)[0]


RULE = KeRNL(rate=0.6, sigma=0.01)


def random_memory(c, strategy=RULE, out_of_range=False):
    """The memory of a new row, with another kernel; two of the γ may be outside of [0, 1]."""
    rng, memory = np.random.default_rng(1), new_memory(strategy, c)
    S = len(memory.shared.gamma)
    gamma = rng.uniform(0.1, 0.9, S)
    if out_of_range:
        gamma[:2] = -0.2, 1.3
    return memory._replace(shared=Kernel(np.eye(S) + 0.3 * rng.normal(size=(S, S)), gamma))


def with_noise(strategy, problem, params, state, memory, batch, noise):
    """The estimate of a window, with the signs that each row has drawn."""
    start, memory = reset_rows(strategy, problem, params, state, memory, batch.reset)
    return strategy.estimate(problem, params, start, memory, batch, noise)


estimate = functools.partial(quick_jit, static_argnums=(0, 1))(with_noise)


@functools.cache
def of_rnn():
    return of_model(RNN(hidden=H))


def run_rnn(memory, noise, batch=None, state=None):
    """The estimate of a window of the RNN, the first one by default."""
    c = of_rnn()
    batch, state = c.windows[0] if batch is None else batch, c.state if state is None else state
    return estimate(RULE, c.problem, c.params, state, memory, batch, noise)


def by_hand(c, strategy, kernel, noises):
    """The estimates of all windows, with M = A B dense: a loop over rows and steps."""
    (A, gamma), found, carried, step = map(np.asarray, kernel), [], [None] * B, quick_jit(c.step)
    states = c.state
    vector = lambda state: np.concatenate(jax.tree.leaves(state))
    row = lambda tree, *at: jax.tree.map(lambda a: np.asarray(a)[at], tree)
    state_of = lambda s: jax.tree.unflatten(jax.tree.structure(c.state), np.split(s, len(s) // H))
    initial = vector(jax.tree.map(np.asarray, c.initial(c.params)))
    for d, batch, noise in zip(derivatives(c), c.windows, noises, strict=True):
        grads, weights, gamma = 0.0, np.asarray(batch.weights), np.clip(gamma, 0, 1)
        dA, dgamma = np.zeros_like(A), np.zeros_like(gamma)
        for b in range(B):
            s = initial if batch.reset[b] else vector(row(states, b))
            if carried[b] is None or batch.reset[b]:
                carried[b] = np.zeros(d.I.shape[2:]), s, np.zeros_like(s), np.zeros_like(s)
            trace, copy, omega, slope = carried[b]
            for t in range(T):
                x = row(batch.xs, t, b)
                grads = grads + weights[t, b] * (d.q[b, t] @ A @ trace + d.direct[b, t])
                trace = (1 - gamma)[:, None] * trace + d.I[b, t]
                zeta = np.where(noise[b, t], 1.0, -1.0)
                s, copy = (vector(step(c.params, state_of(v), x)[0]) for v in (s, copy))
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
    c = of_rnn() if name == "rnn" else of_model(sj.create("model", name, hidden=H))
    memory, state = random_memory(c, out_of_range=True), c.state
    noises = np.random.default_rng(2).random((3, B, T, memory.rows.omega.shape[1])) < 0.5
    wanted = by_hand(c, RULE, memory.shared, noises)
    for batch, noise, want in zip(c.windows, noises, wanted, strict=True):
        e = estimate(RULE, c.problem, c.params, state, memory, batch, noise)
        state, memory = e.state, e.memory
        found = e.loss, ravel(e.grads), state, tuple(memory.shared), tuple(memory.rows[1:])
        assert_close(found, want, name, bound=1e-9)
        assert_close(found[:3], want[:3], name, bound=1e-11)


def test_it_is_exact_and_learns_nothing_where_its_kernel_is_right():
    """For all patterns of signs in a first window, and after some of them in a second one."""
    c, strategy, keep = of_model(Leaky(hidden=2), num_steps=3), KeRNL(), np.array([0.3, 0.8])
    c.params["layer_0"]["cell"]["keep"] = keep
    right = Kernel(np.eye(2), 1 - keep)
    memory = new_memory(strategy, c)._replace(shared=right)
    exact, state = new_memory(RTRL(), c), c.state
    row = memory.rows._replace(omega=np.zeros(2))
    patterns, probabilities = strategy.outcomes(c.problem, c.params, memory._replace(rows=row), 3)
    assert patterns.shape == (64, 3, 2)
    assert_close(probabilities, np.full(64, 1 / 64), "probabilities")

    @quick_jit
    @functools.partial(jax.vmap, in_axes=(None, None, None, 0))
    def every(state, memory, batch, noise):
        return with_noise(strategy, c.problem, c.params, state, memory, batch, jnp.stack([noise, ~noise]))

    for w in (0, 2):
        batch = c.windows[w]._replace(reset=np.zeros(B, bool))
        want = estimate(RTRL(), c.problem, c.params, state, exact, batch, ())
        found = every(state, memory, batch, patterns)
        of_all = lambda tree: jax.tree.map(lambda a: np.stack([a] * 64), tree)
        assert_close(found.grads, of_all(want.grads), "the gradient")
        assert_close(found.memory.shared, of_all(right), "the kernel")
        state, memory, exact = want.state, jax.tree.map(lambda a: np.asarray(a)[37], found.memory), want.memory


def stream(strategy, c, memory, num_windows):
    """The memory after many windows, and the gradients [N, ...]."""
    rng, (inputs, targets) = np.random.default_rng(5), c.windows[0].xs
    xs = tuple(rng.normal(size=(num_windows, *a.shape)) for a in (inputs, targets))
    weights = np.full(inputs.shape[:2], 1 / (T * B))

    def window(carry, inputs):
        i, x = inputs
        batch = Batch(x, weights, np.zeros(B, bool), np.arange(B, dtype=np.int32))
        key = jax.random.fold_in(jax.random.key(0), i)
        e = strategy(c.problem, c.params, *carry, batch, key)
        return (e.state, e.memory), e.grads

    run = quick_jit(lambda memory: jax.lax.scan(window, (c.state, memory), (np.arange(num_windows), xs)))
    (_, memory), grads = run(memory)
    return memory, grads


def test_it_learns_a_kernel_that_it_can_represent():
    """A becomes the identity, and each γ what its unit loses in a step."""
    c, strategy = of_model(Leaky(hidden=H)), KeRNL(rate=0.9)
    c.params["layer_0"]["cell"]["keep"] = np.array([0.2, 0.5, 0.8])
    memory, _ = stream(strategy, c, random_memory(c, strategy), 2000)
    assert_close(memory.shared, Kernel(np.eye(H), np.array([0.8, 0.5, 0.2])), "the kernel", bound=1e-4)


@pytest.mark.slow
def test_on_a_network_whose_units_act_on_each_other_the_error_falls():
    """The kernel that it learns is better than the first one, by the gradient of the history."""
    c, strategy = of_model(RNN(hidden=8), scale=0.3), KeRNL()
    new = new_memory(strategy, c)
    total = lambda grads: ravel(jax.tree.map(lambda a: np.sum(a, 0), grads))
    learned, _ = stream(strategy, c, new, 1500)
    exact = total(stream(RTRL(), c, new_memory(RTRL(), c), 500)[1])

    def error(shared):
        found = total(stream(KeRNL(rate=0.0), c, new._replace(shared=shared), 500)[1])
        return np.linalg.norm(found - exact) / np.linalg.norm(exact)

    assert error(learned.shared) < 0.7 * error(new.shared)


def joined(*windows):
    """What the steps of several windows read."""
    return tuple(np.concatenate(each) for each in zip(*[window.xs for window in windows], strict=True))


@quick_jit
def with_reset(state, memory, xs, weights, reset, noise):
    """The estimate of a window of the RNN with steps at which sequences start, where all rows draw this noise."""

    class Given(KeRNL):
        def draw(self, key, problem, params, memory, num_steps):
            return noise

    c = of_rnn()
    gradient = sj.estimate(c.problem, Given(RULE.gamma, RULE.rate, RULE.sigma), batched=True)
    return gradient(c.params, state, xs, memory=memory, weights=weights, reset=reset, key=jax.random.key(0))


@pytest.mark.parametrize("at", [T, pytest.param(0, marks=pytest.mark.slow)])
def test_a_reset_inside_of_a_window_begins_anew(at):
    """A window with a reset is that of its pieces, and the second piece starts with a new copy and new traces."""
    c, rng, no_reset = of_rnn(), np.random.default_rng(4), np.zeros(2 * T, bool)
    noise, weights, xs = rng.random((2 * T, H)) < 0.5, rng.uniform(size=(2 * T, B)), joined(*c.windows[1:])
    memory = run_rnn(random_memory(c), np.stack([noise[:T]] * B)).memory
    found = with_reset(c.state, memory, xs, weights, np.arange(2 * T) == at, noise)
    new, first = initial(RULE, c.problem, c.params, None)
    new = new._replace(shared=memory.shared)
    if at:
        parts = []
        for p, state, carried in ((slice(T), c.state, memory), (slice(T, 2 * T), first, new)):
            batch = Batch(tuple(a[p] for a in xs), weights[p], np.zeros(B, bool), c.windows[1].rows)
            parts.append(run_rnn(carried, np.stack([noise[p]] * B), batch, state))
    else:
        parts = [with_reset(first, new, xs, weights, no_reset, noise)]
    parts = jax.tree.map(np.asarray, parts)
    assert_close(found.grads, jax.tree.map(lambda *a: sum(a), *[e.grads for e in parts]), "the gradient")
    assert_close(found.memory.rows, parts[-1].memory.rows, "what rows carry")
    old = Kernel(np.asarray(memory.shared.A), np.clip(memory.shared.gamma, 0, 1))
    mean = jax.tree.map(lambda *a: sum(a) / len(a), *[e.memory.shared for e in parts])
    assert_close(found.memory.shared, mean, "the kernel", bound=1e-10)
    assert_far(found.memory.shared, old, "the kernel")


@functools.cache
def of_rflo():
    return quick_jit(sj.estimate(of_rnn().problem, RFLO(leak=0.3), batched=True))


@pytest.mark.parametrize("at", [2, pytest.param(None, marks=pytest.mark.slow)])
def test_before_it_learns_it_is_rflo(at):
    c, resets = of_rnn(), np.arange(2 * T) == at
    memory, xs = new_memory(KeRNL(gamma=0.3), c), joined(*c.windows[:2])
    weights = np.concatenate([window.weights for window in c.windows[:2]])
    found = with_reset(c.state, memory, xs, weights, resets, np.ones((2 * T, H), bool))
    want = of_rflo()(c.params, c.state, xs, weights=weights, reset=resets)
    assert_close(found[:3], want[:3], "rflo")


def test_the_kernel_depends_on_the_signs_and_the_gradient_on_the_kernel():
    memory, signs = new_memory(RULE, of_rnn()), np.ones((B, T, H), bool)
    others = np.arange(signs.size).reshape(signs.shape) % 2 == 0
    once, again, other = (run_rnn(memory, noise) for noise in (signs, signs, others))
    assert_close(once, again, "the same signs", bound=0)
    assert_far(other.memory.shared, once.memory.shared, "the kernel after other signs")
    grads = [run_rnn(e.memory, signs, of_rnn().windows[2], e.state).grads for e in (once, other)]
    assert_far(grads[1], grads[0], "the gradient after other signs", at_least=1e-6)


@pytest.mark.parametrize(
    ("scored", "trains"),
    [([0, 0, 0, 0], False), ([0, 1, 0, 0], False), ([1, 1, 0, 1], True), ([0, 0, 0, 1], True)],
    ids=["a row", "the end of a row", "between scored steps", "before a scored step"],
)
def test_padding_does_not_train_the_kernel(scored, trains):
    """A step without a score trains it if a later step of the row in this window is scored."""
    c, noise = of_rnn(), np.ones((B, T, H), bool)
    batch, memory = c.windows[0], random_memory(c)
    batch = batch._replace(weights=np.stack([batch.weights[:, 0], scored], 1))
    changed = np.zeros((T, B, 1))
    changed[2, 1] = 1
    xs = tuple(a + changed for a in batch.xs)
    one, two = (run_rnn(memory, noise, each) for each in (batch, batch._replace(xs=xs)))
    if trains:
        assert_far(two.memory.shared, one.memory.shared, "the kernel", at_least=1e-6)
    else:
        assert_close(two.memory.shared, one.memory.shared, "the kernel", bound=0)


@pytest.mark.parametrize("fields", [{"embedding": 2}, {"layers": 2}], ids=repr)
def test_a_network_whose_parameters_feed_many_units_is_refused(fields):
    problem = RNN(hidden=H, **fields).problem(sj.Spec(sj.Tokens(5)))
    params = jax.eval_shape(problem.init, jax.random.key(0))
    with pytest.raises(sj.Error, match=r"KeRNL\(.*\) takes a `Cell` or `Elementwise` of one layer"):
        jax.eval_shape(lambda params: init_memory(KeRNL(), problem, params, problem.init_rows(params, B), B), params)


def test_any_other_step_is_refused():
    gradient = sj.estimate(lambda w, s, x: (w * s + x, s**2), KeRNL(), batched=True)
    with pytest.raises(sj.Error, match="use rtrl or snap, which take any step"):
        gradient(np.array(0.5), np.zeros(B), np.ones((T, B)), key=jax.random.key(0))


def test_an_unscored_loss_may_be_nan():
    """Neither the gradient nor the kernel reads it."""
    memory, noise, batch = random_memory(of_rnn()), np.ones((B, T, H), bool), of_rnn().windows[0]
    inputs, targets = batch.xs
    unscored = targets.copy()
    unscored[1, 0] = np.nan
    found, want = (run_rnn(memory, noise, each) for each in (batch._replace(xs=(inputs, unscored)), batch))
    assert_close(found, want, "the estimate")
