"""Resets inside of a window, against the pieces between them, each a window of its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.gradients import Batch, init_memory
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import (
    ARTBP,
    DNI,
    K1K2,
    KFRTRL,
    OK,
    PES,
    RFLO,
    RTRL,
    UORO,
    Clipped,
    Directional,
    Discounted,
    Full,
    Immediate,
    Layerwise,
    Only,
    Randomized,
    Sliding,
    SnAp,
    SparseRTRL,
    Truncated,
)

pytestmark = pytest.mark.usefixtures("x64")

T, B = 6, 2
RESETS = [np.array([[0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 1]], bool).T, np.array([[1, 0, 0, 0, 0, 0], [0] * 6], bool).T]
"""Those of two windows, [T, B]."""
WEIGHTS = 1 / (T * B)


def step(params, state, x):
    """A step with a counter, whose loss is one of the state before it, too."""
    h = jnp.tanh(params["W"] @ state["h"] + x + params["b"] * state["n"].astype(float))
    return {"h": h, "n": (state["n"] + 1) % 3}, jnp.sum(h**2) + state["h"][0] * x[1]


def constant(params, key=None):
    return {"h": jnp.array([0.3, -0.2]), "n": jnp.asarray(1)}


def learned(params, key=None):
    return {"h": jnp.sin(params["b"]), "n": jnp.asarray(2)}


def arguments():
    keys = jax.random.split(jax.random.key(0), 4)
    params = {"W": jax.random.normal(keys[0], (2, 2)), "b": jax.random.normal(keys[1], (2,))}
    state = {"h": jax.random.normal(keys[2], (B, 2)), "n": jnp.array([0, 2])}
    return params, state, list(jax.random.normal(keys[3], (2, T, B, 2)))


def with_resets(strategy, init_state):
    """The gradients of two windows, the state after them, and the memory."""
    gradient = sj.value_and_grad(sj.Problem(step, init_state), strategy)

    def run(params, state, windows):
        memory, grads = None, []
        for xs, reset in zip(windows, RESETS, strict=True):
            found = gradient(params, state, xs, memory=memory, reset=reset)
            state, memory = found.state, found.memory
            grads.append(found.grads)
        return grads, state, memory.rows

    return quick_jit(run)(*arguments())


def in_pieces(strategy, init_state):
    """The same, row by row and piece by piece."""
    problem = sj.Problem(step, init_state)

    def run_row(params, state, windows, row):
        memory, grads = init_memory(strategy, problem, params, state, 1), []
        for xs, reset in zip(windows, RESETS, strict=True):
            starts = [0, *(t for t in range(1, T) if reset[t, row])]
            total = jax.tree.map(jnp.zeros_like, params)
            for first, last in zip(starts, [*starts[1:], T], strict=True):
                weights = jnp.full((last - first, 1), WEIGHTS)
                batch = Batch(xs[first:last], weights, jnp.asarray(reset[first, row])[None], jnp.zeros(1, jnp.int32))
                found = strategy(problem, params, state, memory, batch)
                state, memory = found.state, found.memory
                total = jax.tree.map(jnp.add, total, found.grads)
            grads.append(total)
        return grads, state, memory.rows

    def run(params, state, windows):
        rows = []
        for row in range(B):
            start = {name: a[row : row + 1] for name, a in state.items()}
            rows.append(run_row(params, start, [xs[:, row : row + 1] for xs in windows], row))
        grads = jax.tree.map(lambda *a: sum(a), *(row[0] for row in rows))
        return grads, *jax.tree.map(lambda *a: jnp.concatenate(a), *(row[1:] for row in rows))

    return quick_jit(run)(*arguments())


PIECEWISE = [
    *(Full(), Full(levels=1), Immediate(), Directional(), RTRL(), SnAp(n=1), SnAp(n=2), RFLO(leak=0.3)),
    SparseRTRL(paths=1),
    *(Sliding(steps=3), Clipped(limit=0.5)),
]
QUICK = [RTRL(), SnAp(n=2), RFLO(leak=0.3)]
CASES = [(strategy, constant) for strategy in PIECEWISE] + [
    # A learned initial state belongs to the step that is reset: `sliding` differentiates it as a part of this step,
    # and `clipped` does not clip its gradient.
    (strategy, learned)
    for strategy in PIECEWISE[:-2]
]


@pytest.mark.parametrize(
    ("strategy", "init_state"),
    [
        pytest.param(*each, marks=() if each[0] in QUICK and each[1] is learned else pytest.mark.slow, id=f"{each[0]}")
        for each in CASES
    ],
)
def test_a_reset_is_the_start_of_a_window(strategy, init_state):
    assert_close(with_resets(strategy, init_state), in_pieces(strategy, init_state), repr(strategy))


@pytest.mark.parametrize(
    "strategy",
    [Truncated(steps=2), Truncated(steps=4), K1K2(k1=2, k2=3), Discounted(discount=0.6), Only(Truncated(), ("h",))],
    ids=repr,
)
def test_cuts_are_counted_from_the_start_of_the_scan(strategy):
    """Against `scan`, row by row, which is compared with loops."""
    params, state, (xs, _) = arguments()

    def by_scan(params, state):
        def row(state, xs, reset):
            f = functools.partial(step, params)
            return sj.scan(f, state, xs, gradient=strategy, reset=reset, initial=learned(params))[1].sum() * WEIGHTS

        return jax.vmap(row, (0, 1, 1))(state, xs, jnp.asarray(RESETS[0])).sum()

    found = quick_jit(sj.value_and_grad(sj.Problem(step, learned), strategy))(params, state, xs, reset=RESETS[0])
    assert_close(found[:2], quick_jit(jax.value_and_grad(by_scan))(params, state), repr(strategy))


def test_sliding_differentiates_each_loss_through_its_last_steps():
    params, state, (xs, _) = arguments()
    K = 3

    def total(params):
        def loss(row, t):
            """The loss of one step, whose state K steps before is a constant."""
            carry, found = {name: a[row] for name, a in state.items()}, 0.0
            for i in range(t + 1):
                carry = jax.lax.stop_gradient(carry) if i == t - K + 1 else carry
                carry = learned(params) if RESETS[0][i, row] else carry
                carry, found = step(params, carry, xs[i, row])
            return found * WEIGHTS

        return sum(loss(row, t) for row in range(B) for t in range(T))

    found = quick_jit(sj.value_and_grad(sj.Problem(step, learned), Sliding(steps=K)))(
        params, state, xs, reset=RESETS[0]
    )
    assert_close(found.grads, quick_jit(jax.grad(total))(params), "sliding")


def scalar(params, s, x):
    s = jnp.tanh(params * s + x)
    return s, s**2


@pytest.mark.parametrize("strategy", [Randomized(keep_prob=0.5), ARTBP(length=2.0), UORO()], ids=repr)
def test_the_mean_over_all_outcomes_is_the_gradient_with_resets(strategy):
    reset, xs = jnp.array([False, False, True, False]), jnp.linspace(-1, 1, 4)
    w, s = jnp.asarray(0.7), jnp.asarray(0.5)
    problem = sj.Problem(scalar, lambda w, key=None: jnp.sin(w))
    memory = strategy.init(problem, w, s)
    outcomes, probabilities = strategy.outcomes(problem, w, memory, len(xs))

    def one(noise):
        class Given(type(strategy)):
            def draw(self, *args):
                return noise

        given = sj.value_and_grad(problem, Given(**vars(strategy)), batched=False)
        return given(w, s, xs, reset=reset, key=jax.random.key(0)).grads

    mean = probabilities @ quick_jit(jax.vmap(one))(outcomes)
    full = sj.value_and_grad(problem, Full(), batched=False)(w, s, xs, reset=reset).grads
    assert_close(mean, full, repr(strategy))


CARRYING = [SparseRTRL(paths=1), KFRTRL(), DNI(), Layerwise(), OK(rank=2), PES(particles=2), RFLO(), RTRL(), SnAp(n=2)]
"""All that carry something and take any step, except UORO: it draws a sign for the start of a batch, and none for a
reset inside of a window."""


@pytest.mark.parametrize(
    "strategy", [pytest.param(each, marks=[pytest.mark.slow][: i > 2], id=f"{each}") for i, each in enumerate(CARRYING)]
)
def test_a_reset_of_the_first_step_is_a_reset_of_the_batch(strategy):
    problem, (params, state, windows) = sj.Problem(step, learned), arguments()
    memory, key = init_memory(strategy, problem, params, state, B), jax.random.key(0)
    xs, weights, reset = windows[0][:2], jnp.full((2, B), 1 / (2 * B)), jnp.array([True, False])

    def both(params, state, memory):
        by_batch = strategy(problem, params, state, memory, Batch(xs, weights, reset, jnp.arange(B)), key)
        gradient, resets = sj.value_and_grad(problem, strategy), jnp.stack([reset, jnp.zeros(B, bool)])
        return by_batch, gradient(params, state, xs, memory=memory, key=key, reset=resets)

    by_batch, by_step = quick_jit(both)(params, state, memory)
    assert_close(by_step.grads, by_batch.grads, repr(strategy))


@pytest.mark.parametrize("strategy", [RTRL(), SnAp(n=2), RFLO(), UORO(), PES(particles=4)], ids=repr)
def test_what_a_history_carries_begins_anew(strategy):
    """After a reset at the first step, nothing depends on what was carried."""
    problem, (params, state, windows) = sj.Problem(step, learned), arguments()
    gradient = quick_jit(sj.value_and_grad(problem, strategy))
    key = jax.random.key(0) if strategy.draws else None
    first = gradient(params, state, windows[0], key=key)
    memories = [first.memory, jax.tree.map(lambda a: 2 * a + 1 if a.dtype == float else a, first.memory)]
    always, once = jnp.zeros(T, bool).at[0].set(True), jnp.zeros(T, bool).at[3].set(True)
    found = [gradient(params, first.state, windows[1], memory=m, reset=always, key=key) for m in memories]
    assert_close(found[0], found[1], repr(strategy), bound=0)
    other = [gradient(params, first.state, windows[1], memory=m, reset=once, key=key) for m in memories]
    assert not jnp.allclose(other[0].grads["W"], other[1].grads["W"])


def test_persistent_particles_use_the_perturbations_since_the_reset():
    """A scalar state that is linear in the parameter, for which all signs together give the exact gradient."""

    def linear(w, s, x):
        s = s + w * x
        return s, s

    strategy, reset = PES(particles=2, sigma=0.5), jnp.array([False, False, True, False])
    w, xs = jnp.asarray(0.3), jnp.array([[1.0, 2.0, -1.0, 3.0], [0.5, 1.0, 2.0, 1.0]])
    gradient = functools.partial(sj.value_and_grad, linear, batched=False)
    total = 0.0
    for first in (False, True):
        for second in (False, True):
            one = gradient(_signed(strategy, first))(w, jnp.zeros(()), xs[0], key=jax.random.key(0))
            two = gradient(_signed(strategy, second))(
                w, one.state, xs[1], memory=one.memory, reset=reset, initial=jnp.zeros(()), key=jax.random.key(0)
            )
            total += (one.grads + two.grads) / 4
    wanted, state = 0.0, 0.0
    for t, x in enumerate(jnp.concatenate(list(xs))):
        state = x if t == 6 else state + x  # ds/dw, which begins anew at step 2 of the second window
        wanted += state / 4
    assert_close(total, wanted, "pes")


def _signed(strategy, sign):
    class Given(type(strategy)):
        def draw(self, key, problem, params, memory, num_steps):
            return jnp.full(memory.rows[1].shape, sign)

    return Given(**vars(strategy))


@pytest.mark.parametrize(
    ("strategy", "argnums"),
    [
        *((strategy, (0, 1)) for strategy in (RTRL(), Sliding(steps=10**9))),
        *((strategy, (0, 1, 2)) for strategy in (Full(), Truncated(steps=2))),
    ],
    ids=repr,
)
def test_every_argument_is_differentiated_through_resets(strategy, argnums):
    """Without `init_state`, steps that are reset start from the state that was given, which gets their gradient."""
    params, state, (xs, _) = arguments()
    floats = {"h": state["h"]}

    def by_scan(params, h, xs):
        def row(h, n, xs, reset):
            f, cut = functools.partial(step, params), strategy if isinstance(strategy, Truncated) else Full()
            return sj.scan(f, {"h": h, "n": n}, xs, gradient=cut, reset=reset)[1].sum() * WEIGHTS

        return jax.vmap(row, (0, 0, 1, 1))(h, state["n"], xs, jnp.asarray(RESETS[0])).sum()

    found = quick_jit(sj.value_and_grad(step, strategy, argnums=argnums))(params, state, xs, reset=RESETS[0])
    want = quick_jit(jax.grad(by_scan, argnums))(params, floats["h"], xs)
    assert_close(jax.tree.leaves(found.grads), jax.tree.leaves(want), f"{strategy}, {argnums}")


def test_a_step_without_a_state_may_have_rows_that_are_reset():
    def stateless(w, s, x):
        return s, (w * x) ** 2

    xs = jnp.ones((T, B))
    for strategy in (Full(), RTRL(), Immediate()):
        found = sj.value_and_grad(stateless, strategy)(jnp.asarray(2.0), (), xs, reset=RESETS[0])
        assert_close(found.grads, jnp.asarray(4.0), repr(strategy))


def test_outputs_and_a_single_sequence():
    params, state, (xs, _) = arguments()

    def with_outputs(params, state, x):
        new, loss = step(params, state, x)
        return new, (loss, new["h"])

    row = jax.tree.map(lambda a: a[0], state)
    h, n, wanted = row["h"], row["n"], []
    for t in range(T):
        s = row if RESETS[0][t, 0] else {"h": h, "n": n}
        s, _ = step(params, s, xs[t, 0])
        h, n = s["h"], s["n"]
        wanted.append(h)
    for strategy in (Full(), RTRL()):
        run = sj.value_and_grad(with_outputs, strategy, has_aux=True, batched=False)
        found = run(params, row, xs[:, 0], reset=RESETS[0][:, 0])
        assert_close(found.outputs, jnp.stack(wanted), repr(strategy))


def test_no_part_of_a_gradient_by_lag_crosses_a_reset():
    """Of each row and piece apart; the parts of the lags that a piece does not have are zero."""
    params, state, (xs, _) = arguments()
    found = sj.lags(sj.Problem(step, learned), params, state, xs, max_lag=T, reset=RESETS[0])
    total = jax.tree.map(jnp.zeros_like, found.gradients)
    for row in range(B):
        starts = [0, *(t for t in range(1, T) if RESETS[0][t, row])]
        for first, last in zip(starts, [*starts[1:], T], strict=True):
            weights = jnp.zeros((T, B)).at[first:last, row].set(WEIGHTS)
            part = sj.lags(
                sj.Problem(step, learned), params, state, xs, max_lag=T, weights=weights, reset=RESETS[0]
            ).gradients
            assert all(not a[last - first :].any() for a in jax.tree.leaves(part))
            total = jax.tree.map(jnp.add, total, part)
    full = sj.value_and_grad(sj.Problem(step, learned), Full())(params, state, xs, reset=RESETS[0]).grads
    assert_close(found.gradients, total, "pieces")
    assert_close(jax.tree.map(lambda a: a.sum(0), found.gradients), full, "sum")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": jnp.zeros(2)}, r"pass reset, bool\[T\], too"),
        ({"reset": np.zeros(T, int)}, r"reset must be bool\[6\] or bool\[6, 2\], not int64\[6\]"),
        ({"reset": jnp.zeros((T, 3), bool)}, r"not bool\[6, 3\]"),
        ({"reset": jnp.zeros(T, bool), "initial": jnp.zeros(3)}, "initial must be like state, with leaves"),
    ],
)
def test_wrong_resets_are_refused(options, message):
    for call in (sj.value_and_grad(step, Full()), functools.partial(sj.lags, step, max_lag=2)):
        with pytest.raises(sj.Error, match=message):
            call(*arguments()[:2], arguments()[2][0], **options)
