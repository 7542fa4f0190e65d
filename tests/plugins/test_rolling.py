"""`rolling` against a replay of the last K steps of each loss, which is differentiated in forward mode."""

import functools
from typing import Any, NamedTuple

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.cells import Started
from support.slow import slow

import seqjax as sj
from seqjax.gradients import RTRL, Batch, Rolling, init_memory
from seqjax.models import GRU, LRU, LSTM, RNN
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.cases import foreign_init, foreign_step
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.reverse import rolling

pytestmark = pytest.mark.usefixtures("x64")

T, B, V = 30, 2, 5
"""The steps of the stream, its rows, and the number of ids."""
REACHES = (1, 2, 5, 12)
LENGTHS = (1, 3, 10)


@pytest.fixture
def several_blocks(monkeypatch):
    """Windows of 10 steps have two blocks of losses, and a rest of two."""
    monkeypatch.setattr(rolling, "BLOCK", 4)


class Stream(NamedTuple):
    """A problem and its data; what a step reads is (input, target), and the target is read by the loss alone.

    Args:
        problem: the problem.
        params: its parameters.
        state: the state that enters the first step, leaves [B, ...].
        xs: what the steps read, leaves [T, B, ...].
        step: the step for the oracle.
    """

    problem: Any
    params: Any
    state: Any
    xs: Any
    step: Any


def step(params, state, x):
    """It is not finite at an input of 0, which is what memory holds before the first step."""
    u, y = x
    h = jnp.tanh(params["w"] @ state["h"] + params["b"] * jnp.log(u) * (1 + 0.1 * state["n"].astype(u.dtype)))
    return {"h": h, "n": state["n"] + 1}, (h.sum() - y) ** 2 + params["b"][0] * state["h"][0]


def start(params, key=None):
    return {"h": jnp.sin(params["start"]), "n": jnp.zeros((), jnp.int32)}


def of_step():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(2, 2)), "b": rng.normal(size=2), "start": rng.normal(size=2)}
    state = {"h": rng.normal(size=(B, 2)), "n": np.array([3, 0], np.int32)}
    xs = rng.uniform(0.2, 3, (T, B)), rng.normal(size=(T, B))
    return Stream(sj.Problem(step, start), params, state, xs, step)


def of_model(model, spec):
    rng, problem = np.random.default_rng(1), sj.Problem.of(model, spec)
    random = lambda a: rng.normal(size=a.shape, scale=0.8)
    params = jax.tree.map(random, jax.eval_shape(lambda: problem.init(jax.random.key(0))))
    state = jax.tree.map(random, jax.eval_shape(lambda params: problem.init_rows(params, B), params))
    of = lambda side: (
        rng.integers(0, V, (T, B), dtype=np.int32) if isinstance(side, sj.Tokens) else rng.normal(size=(T, B, side.dim))
    )
    return Stream(problem, params, state, (of(spec.inputs), of(spec.targets)), problem.step)


def foreign():
    """Two float leaves, a counter and a key in the state, and a state that begins in what is learned."""
    rng = np.random.default_rng(2)
    params = {"A": (3, 3), "b": (3,), "c": (3,), "v0": (3,)}
    params = {name: rng.normal(size=shape, scale=0.5) for name, shape in params.items()}
    state = {"v": rng.normal(size=(B, 3)), "m": rng.normal(size=B), "n": np.array([2, 7], np.int32)}
    state["key"] = jax.random.split(jax.random.key(5), B)
    xs = rng.normal(size=(T, B)), rng.normal(size=(T, B, 3))
    one = lambda params, state, x: foreign_step(params, state, dict(zip("uy", x, strict=True)))
    return Stream(sj.Problem(one, foreign_init), params, state, xs, one)


def switching():
    """A step that sees `vmap`: mapped over time, all steps would take the branch of one."""

    def step_with(decide, w, s, x):
        (u, is_first), y = x
        s = jnp.where(decide(is_first), jnp.sin(w[0] * s + u), w[1] * s)
        return s, (s - y) ** 2

    step, oracle = (functools.partial(step_with, decide) for decide in (eqxi.unvmap_any, lambda flag: flag))
    rng = np.random.default_rng(3)
    is_first = np.broadcast_to((np.arange(T) % 3 == 1)[:, None], (T, B))
    xs = (rng.normal(size=(T, B)), is_first), rng.normal(size=(T, B))
    problem = sj.Problem(step, lambda w, key=None: jnp.sin(w[1]))
    return Stream(problem, np.array([0.9, 0.7]), rng.normal(size=B), xs, oracle)


def follow(problem, strategy, length, params, state, xs, weights, resets):
    """Loss, gradient and state of each window; windows of one step are reset as training and a `Learner` do it."""
    cut = functools.partial(jax.tree.map, lambda a: a.reshape(len(a) // length, length, *a.shape[1:]))
    estimate = sj.estimate(problem, strategy, batched=True)

    def window(carry, inputs):
        state, memory = carry
        params, xs, weights, reset = inputs
        params = jax.tree.map(lambda a: a[0], params)
        if length == 1:
            batch = Batch(xs, weights, reset[0], jnp.arange(B, dtype=jnp.int32))
            e = strategy(problem, params, state, memory, batch)
        else:
            e = estimate(params, state, xs, memory=memory, weights=weights, reset=reset)
        return (e.state, e.memory), (e.loss, e.grads, e.state)

    first, x = jax.tree.map(lambda a: a[0], params), jax.tree.map(lambda a: a[0, 0], xs)
    begin = state, init_memory(strategy, problem, first, state, B, x)
    return jax.lax.scan(window, begin, cut((params, xs, weights, resets)))[1]


@functools.partial(quick_jit, static_argnums=(0, 1))
def found(problem, cases, *args):
    """`follow` for cases (K, steps of a window); one program for all of them."""
    return {case: follow(problem, Rolling(steps=case[0]), case[1], *args) for case in cases}


@functools.partial(quick_jit, static_argnums=(0, 1))
def replayed(step, initial, params, state, xs, resets, firsts):
    """Losses and states after the steps, leaves [B, T, ...], and the gradients of the losses, [B, K, T, ...].

    Args:
        step: the step.
        initial: params -> the state at a reset.
        params: those of each step, leaves [T, ...].
        state: the state that enters the first step, leaves [B, ...].
        xs: what the steps read, leaves [T, B, ...].
        resets: bool[T, B].
        firsts: int[K, T, B], the first step that the loss of each step is differentiated through.
    """
    at = lambda tree, t: jax.tree.map(lambda a: a[t], tree)

    def row(state, xs, resets, firsts):
        def body(state, inputs):
            params, x, reset = inputs
            entering = jax.tree.map(lambda a, b: jnp.where(reset, a, b), initial(params), state)
            after, loss = step(params, entering, x)
            return after, (entering, after, loss)

        entering, after, losses = jax.lax.scan(body, state, (params, xs, resets))[1]

        def gradient(t, first):
            def loss(params):
                again = lambda u, state: step(params, state, at(xs, u))[0]
                return step(params, jax.lax.fori_loop(first, t, again, at(entering, first)), at(xs, t))[1]

            return jax.jacfwd(loss)(at(params, t))

        return losses, after, jax.vmap(jax.vmap(gradient), (None, 0))(jnp.arange(T), firsts)

    return jax.vmap(row, (0, 1, 1, 2))(state, xs, resets, firsts)


def firsts_of(resets):
    """The first step of each replay: K - 1 steps before, or the last reset, or the start of the stream."""
    firsts = np.zeros((len(REACHES), *resets.shape), np.int64)
    for (k, t, b), _ in np.ndenumerate(firsts):
        begins = [0, *(u for u in range(t + 1) if resets[u, b])]
        firsts[k, t, b] = max(t - REACHES[k] + 1, *begins)
    return firsts


def wanted(s, params, state, xs, weights, resets):
    """(K, steps of a window) -> loss, gradient and state of each window, where the parameters are those of the window.

    A loss of weight 0 and its derivative may be NaN.
    """
    firsts, windows = firsts_of(resets), {}
    for length in LENGTHS:
        held = jax.tree.map(lambda a, n=length: np.repeat(a[::n], n, 0), params)
        losses, after, grads = as_numpy(replayed(s.step, s.problem.init_state, held, state, xs, resets, firsts))

        def total(a, n=length):
            """The weighted sums over the rows and the steps of each window, of leaves [B, T, ...]."""
            w = weights.T.reshape(B, T, *(1,) * (a.ndim - 2))
            each = np.multiply(w, a, where=w != 0, out=np.zeros(a.shape))
            return each.reshape(B, T // n, n, *a.shape[2:]).sum((0, 2))

        ends = jax.tree.map(lambda a, n=length: a[:, n - 1 :: n].swapaxes(0, 1), after)
        for k, reach in enumerate(REACHES):
            of_reach = jax.tree.map(lambda a, k=k: total(a[:, k]), grads)
            windows[reach, length] = total(losses), of_reach, ends
    return windows


def as_numpy(tree):
    is_key = lambda a: jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda a: np.asarray(jax.random.key_data(a) if is_key(a) else a), tree)


def drawn(s, seed, rows_alike=False):
    """The arguments of `follow` with random weights and resets, and parameters that move from step to step if seed > 0.

    Some steps are not scored: their targets are NaN. The last step before a reset has an input of NaN if it is not
    scored, so that the state is NaN until the reset. In row 1 a sequence is longer than the longest reach.

    Args:
        s: the problem and its data.
        seed: of the random numbers.
        rows_alike: whether rows have the same resets and weights. Rows are taken side by side, and a step that sees
            `vmap` reads all of them; so they have to be at the same step.
    """
    rng = np.random.default_rng(seed)
    resets = rng.random((T, B)) < np.where(seed % 2, 0.2, 0.1)
    resets[7:25, 1], resets[25, 1], resets[0, 0] = False, True, bool(seed % 2)
    weights = rng.uniform(0.5, 1.5, (T, B)) * (rng.random((T, B)) < 0.8)
    weights[24, 1] = weights[12] = 0
    weights[20:, 0] *= seed != 1  # whole windows of a row are not scored
    if rows_alike:
        resets[:, 0], weights[:, 0] = resets[:, 1], weights[:, 1]
    params = jax.tree.map(lambda a: a + bool(seed) * 0.3 * rng.normal(size=(T, *np.shape(a))), s.params)
    lost = (weights == 0) & np.append(resets[1:], np.ones((1, B), bool), 0)

    def with_nan(tree, where):
        is_float = lambda a: np.issubdtype(a.dtype, np.floating)
        spoilt = lambda a: np.where(where.reshape(T, B, *(1,) * (a.ndim - 2)), np.nan, a)
        return jax.tree.map(lambda a: spoilt(a) if is_float(a) else a, tree)

    xs = with_nan(s.xs[0], lost), with_nan(s.xs[1], weights == 0)
    return params, s.state, xs, weights, resets


ALL = tuple((reach, length) for reach in REACHES for length in LENGTHS)
"""(K, steps of a window). Each costs some seconds to compile."""
TOKENS, VALUES = sj.Spec(sj.Tokens(V)), sj.Spec(sj.Values(2), sj.Values(3))
MAKE = {
    "step": of_step,
    "two layers": lambda: of_model(RNN(hidden=3, layers=2), TOKENS),
    "started": lambda: of_model(Started(hidden=3), VALUES),
    "foreign": foreign,
    "switching": switching,
    "gru": lambda: of_model(GRU(hidden=3, layers=2), VALUES),
    "lstm": lambda: of_model(LSTM(hidden=3, embedding=2), TOKENS),
    "lru": lambda: of_model(LRU(hidden=3, layers=2), VALUES),
}
QUICK = {
    "step": ((1, 1), (2, 3), (5, 1), (5, 10), (12, 3)),
    "two layers": ((2, 10), (12, 1)),
    "started": ((5, 3), (12, 10)),
}
SLOW = dict.fromkeys(("step", "started"), ALL) | dict.fromkeys(("two layers", "switching", "lstm"), ALL[::2])
SLOW |= dict.fromkeys(("foreign", "gru", "lru"), ALL[1::2])


@pytest.mark.usefixtures("several_blocks")
@pytest.mark.parametrize(("name", "cases"), [*QUICK.items(), *slow(*SLOW.items())])
def test_each_loss_goes_through_its_last_steps(name, cases):
    """Also where resets, steps that are not scored, NaN and windows are between, and while parameters move."""
    s = MAKE[name]()
    for seed in range(3):
        args = drawn(s, seed, rows_alike=name == "switching")
        got, want = as_numpy(found(s.problem, cases, *args)), wanted(s, *args)
        for case in cases:
            check(got[case], want[case], f"seed {seed}, (K, length) = {case}, ")


def check(got, want, what):
    """Compares loss, gradient and state of all windows. Where a state is lost to NaN, it is so in both."""
    known = lambda tree: jax.tree.map(lambda a: np.nan_to_num(a, nan=9.0), tree)
    (loss, grads, state), (of_oracle, oracle, entered) = got, want
    assert_close((loss, grads, known(state)), (of_oracle, oracle, known(entered)), what, bound=1e-12)


LONG = 70
"""A number of steps of which more than one block are taken."""


def long():
    """The arguments of `step` for a long window, and the weights."""
    s, rng = of_step(), np.random.default_rng(4)
    xs = rng.uniform(0.2, 3, (LONG, B)), rng.normal(size=(LONG, B))
    return jax.device_put(((s.params, s.state, xs), rng.uniform(size=(LONG, B))))


def test_it_keeps_the_first_lags_of_the_gradient():
    """A window has more losses than a block here. As many steps as there are give the gradient of the history."""
    args, weights = long()

    @quick_jit
    def gradients(params, state, xs):
        keep = Rolling(steps=5)
        grads = sj.value_and_grad(step, keep, batched=True)(params, state, xs, weights=weights)[1]
        held = jax.tree.map(lambda a: jnp.broadcast_to(a, (LONG, *a.shape)), params)
        halves = LONG // 2, held, state, xs, weights, np.zeros((LONG, B), bool)
        return grads, *(follow(sj.Problem(step), each, *halves)[1] for each in (Rolling(steps=LONG), RTRL()))

    grads, longest, rtrl = gradients(*args)
    lags = sj.lags(step, *args, max_lag=6, weights=weights, batched=True)
    first = jax.tree.map(lambda a: np.asarray(a)[:5].sum(0), lags.gradients)
    assert_close(grads, first, "K = 5", bound=1e-12)
    assert_close(longest, rtrl, "as many steps as there are", bound=1e-12)


@pytest.mark.slow
def test_its_error_is_measured():
    args, weights = long()
    lags = sj.lags(step, *args, max_lag=6, weights=weights, batched=True)
    options = {"windows": 2, "weights": weights, "batched": True, "progress": False}
    measured = sj.measure(step, *args, Rolling(steps=5), **options)
    assert measured.bias[0] == pytest.approx(float(lags.bias[4]), rel=1e-10)


def learner_of(s):
    """A learner whose optimizer keeps the last gradient, and an example of what it reads."""
    optimizer = optax.chain(optax.trace(0.0), optax.sgd(0.05))
    return sj.Learner(s.problem, Rolling(steps=5), optimizer, rows=B), jax.tree.map(lambda a: a[0], s.xs)


def go_on(learner, s, state, steps, resets):
    """The state after these steps; of each step, the parameters before it and its gradient."""
    params, grads = [], []
    for t in steps:
        params.append(as_numpy(state.params))
        state, _ = learner.update(state, s.xs[0][t], s.xs[1][t], reset=resets[t])
        grads.append(as_numpy(state.opt_state[0].trace))
    return state, *(jax.tree.map(lambda *a: np.stack(a), *each) for each in (params, grads))


def test_a_learner_takes_the_states_as_they_were():
    """Parameters move at every step. A step of one's own does not say what it reads."""
    s, resets, key = of_step(), drawn(of_step(), 1)[-1], jax.random.key(0)
    learner, sample = learner_of(s)
    with pytest.raises(sj.Error, match=r"rolling must know what a step reads: pass x.*learner.init"):
        learner.init(key, s.params)
    _, params, grads = go_on(learner, s, learner.init(key, s.params, x=sample), range(T), resets)
    resets[0] = True
    want = wanted(s, params, s.state, s.xs, np.full((T, B), 1 / B), resets)[5, 1][1]
    assert_close(grads, want, "the gradients of the updates", bound=1e-12)


@pytest.mark.slow
def test_a_stream_that_is_loaded_goes_on_with_the_same_bits(tmp_path):
    s, resets, key = of_step(), drawn(of_step(), 1)[-1], jax.random.key(0)
    (learner, sample), file = learner_of(s), tmp_path / "state"
    state, *_ = go_on(learner, s, learner.init(key, s.params, x=sample), range(17), resets)
    learner.save(file, state)
    with pytest.raises(sj.Error, match="rolling must know what a step reads: pass x"):
        learner.load(file, s.params)
    loaded = learner.load(file, s.params, x=sample)
    each = [as_numpy(go_on(learner, s, state, range(17, T), resets)) for state in (state, loaded)]
    jax.tree.map(np.testing.assert_array_equal, *each)


def test_a_row_carries_no_targets():
    """Of what a step reads only that on which the next state depends; and shapes must be known."""
    s = of_step()
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[2:], a.dtype), s.xs)
    memory = jax.eval_shape(lambda: init_memory(Rolling(steps=4), s.problem, s.params, s.state, B, x))
    assert sorted(a.shape for a in jax.tree.leaves(memory)) == [(B,), (B, 3), (B, 3), (B, 3), (B, 3, 2)]
    model = MAKE["two layers"]()
    known = jax.eval_shape(lambda: init_memory(Rolling(steps=4), model.problem, model.params, model.state, B))
    assert sum(a.dtype == np.int32 for a in jax.tree.leaves(known)) == 1
    with pytest.raises(sj.Error, match="must know what a step reads: pass x"):
        init_memory(Rolling(steps=4), s.problem, s.params, s.state, B)
