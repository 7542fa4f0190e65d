"""Resets inside of a window, against the pieces between them, each a window of its own."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.passes import by_passes, passes_of
from support.slow import slow

import seqjax as sj
from seqjax.gradients import (
    ARTBP,
    DNI,
    K1K2,
    KFRTRL,
    OK,
    PES,
    RFLO,
    RTRL,
    UORO,
    Batch,
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
    init_memory,
)
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

T, B = 4, 2
RESETS = [np.array(rows, bool).T for rows in ([[0, 0, 1, 1], [0, 1, 0, 1]], [[1, 0, 1, 0], [0, 0, 1, 0]])]
"""Those of two windows, [T, B]. The pieces between them have one or two steps."""
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
    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(2, 2)), "b": rng.normal(size=2)}
    return params, {"h": rng.normal(size=(B, 2)), "n": np.array([0, 2])}, list(rng.normal(size=(2, T, B, 2)))


def with_resets(strategy, init_state):
    """The gradients of two windows, the state after them, and the memory."""
    gradient = sj.estimate(sj.Problem(step, init_state), strategy, batched=True)

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
    problem, (params, state, windows) = sj.Problem(step, init_state), arguments()

    @quick_jit
    def first_memory(state):
        return init_memory(strategy, problem, params, state, 1, windows[0][0, 0])

    @quick_jit
    def piece(state, memory, xs, reset):
        """Compiled once for each number of steps."""
        weights = jnp.full((len(xs), 1), WEIGHTS)
        found = strategy(problem, params, state, memory, Batch(xs, weights, reset, jnp.zeros(1, jnp.int32)))
        return found.grads, found.state, found.memory

    grads, ends = [jax.tree.map(np.zeros_like, params) for _ in windows], []
    for row in range(B):
        state_row = {name: a[row : row + 1] for name, a in state.items()}
        memory = first_memory(state_row)
        for w, (xs, reset) in enumerate(zip(windows, RESETS, strict=True)):
            starts = [0, *(t for t in range(1, T) if reset[t, row])]
            for first, last in itertools.pairwise([*starts, T]):
                part, state_row, memory = piece(
                    state_row, memory, xs[first:last, row : row + 1], reset[first, row : row + 1]
                )
                grads[w] = jax.tree.map(np.add, grads[w], part)
        ends.append((state_row, memory.rows))
    return grads, *jax.tree.map(lambda *a: np.concatenate(a), *ends)


PIECEWISE = [
    *(Full(), Full(levels=1), Immediate(), Directional(), RTRL(), SnAp(n=1), SnAp(n=2), RFLO(leak=0.3)),
    SparseRTRL(paths=1),
    *(Sliding(steps=3), Clipped(limit=0.5)),
]
CASES = [(strategy, constant) for strategy in PIECEWISE] + [
    # A learned initial state belongs to the step that is reset: `sliding` differentiates it as a part of this step,
    # and `clipped` does not clip its gradient.
    (strategy, learned)
    for strategy in PIECEWISE[:-2]
]


@pytest.mark.parametrize(
    ("strategy", "init_state"),
    [
        pytest.param(*each, marks=() if each == (RTRL(), learned) else pytest.mark.slow, id=f"{each[0]}")
        for each in CASES
    ],
)
def test_a_reset_is_the_start_of_a_window(strategy, init_state):
    assert_close(with_resets(strategy, init_state), in_pieces(strategy, init_state), repr(strategy))


@functools.partial(quick_jit, static_argnums=0)
def by_hand(init_state, passes, params, state, xs):
    """Loss and gradients by all arguments, with edges weighted by hand, row by row."""

    def loss(params, h, xs):
        def row(h, n, xs, reset):
            start = {"h": h, "n": n}
            initial = start if init_state is None else init_state(params)
            return by_passes(functools.partial(step, params), start, xs, passes, reset, initial)[1].sum() * WEIGHTS

        return jax.vmap(row, (0, 0, 1, 1))(h, state["n"], xs, RESETS[0]).sum()

    return jax.value_and_grad(loss, (0, 1, 2))(params, state["h"], xs)


@pytest.mark.parametrize(
    ("strategy", "same"),
    [
        (K1K2(k1=2, k2=3), K1K2(k1=2, k2=3)),
        (Sliding(steps=2), K1K2(k1=1, k2=2)),
        *slow(
            *((each, each) for each in (Truncated(steps=3), Discounted(discount=0.6), Only(Truncated(steps=2), ("h",))))
        ),
    ],
    ids=repr,
)
def test_cuts_are_counted_from_the_start_of_the_scan(strategy, same):
    params, state, (xs, _) = arguments()
    loss, grads = by_hand(learned, passes_of(same, T, ("h",)), params, state, xs)
    found = quick_jit(sj.estimate(sj.Problem(step, learned), strategy, batched=True))(
        params, state, xs, reset=RESETS[0]
    )
    assert_close(found[:2], (loss, grads[0]), repr(strategy))


def scalar(params, s, x):
    s = jnp.tanh(params * s + x)
    return s, s**2


@pytest.mark.parametrize("strategy", [ARTBP(length=2.0), UORO(), *slow(Randomized(keep_prob=0.5))], ids=repr)
def test_the_mean_over_all_outcomes_is_the_gradient_with_resets(strategy):
    reset, problem = np.array([False, False, True, False]), sj.Problem(scalar, lambda w, key=None: jnp.sin(w))

    @quick_jit
    def both(w, s, xs):
        def by(strategy):
            gradient = sj.estimate(problem, strategy)
            return gradient(w, s, xs, reset=reset, key=jax.random.key(0)).grads

        def one(noise):
            class Given(type(strategy)):
                def draw(self, *args):
                    return noise

            return by(Given(**vars(strategy)))

        outcomes, probabilities = strategy.outcomes(problem, w, strategy.init(problem, w, s, xs[0]), len(xs))
        return probabilities @ jax.vmap(one)(outcomes), by(Full())

    assert_close(*both(np.array(0.7), np.array(0.5), np.linspace(-1, 1, 4)), repr(strategy))


CARRYING = [KFRTRL(), SparseRTRL(paths=1), DNI(), Layerwise(), OK(rank=2), PES(particles=2), RFLO(), RTRL(), SnAp(n=2)]
"""All that carry something and take any step, except UORO: it draws a sign for the start of a batch, and none for a
reset inside of a window."""


@pytest.mark.parametrize(
    "strategy", [pytest.param(each, marks=[pytest.mark.slow][:i], id=f"{each}") for i, each in enumerate(CARRYING)]
)
def test_a_reset_of_the_first_step_is_a_reset_of_the_batch(strategy):
    problem, (params, state, windows) = sj.Problem(step, learned), arguments()

    @quick_jit
    def both(params, state, xs, reset):
        memory, key = init_memory(strategy, problem, params, state, B, xs[0, 0]), jax.random.key(0)
        batch = Batch(xs, jnp.full((2, B), 1 / (2 * B)), reset, jnp.arange(B))
        by_batch = strategy(problem, params, state, memory, batch, key)
        gradient, resets = sj.estimate(problem, strategy, batched=True), jnp.stack([reset, jnp.zeros(B, bool)])
        return by_batch, gradient(params, state, xs, memory=memory, key=key, reset=resets)

    by_batch, by_step = both(params, state, windows[0][:2], np.array([True, False]))
    assert_close(by_step.grads, by_batch.grads, repr(strategy))


@pytest.mark.parametrize("strategy", [UORO(), *slow(PES(particles=4), RTRL(), SnAp(n=2), RFLO())], ids=repr)
def test_what_a_history_carries_begins_anew(strategy):
    """After a reset at the first step, nothing depends on what was carried."""
    problem, (params, state, (xs, _)) = sj.Problem(step, learned), arguments()
    key = jax.random.key(0) if strategy.draws else None
    gradient = sj.estimate(problem, strategy, batched=True)
    like, run = jax.eval_shape(lambda: gradient(params, state, xs, key=key).memory), quick_jit(gradient)

    def found(seed, at):
        """The estimate for what some history may have carried, with a reset at one step."""
        rng = np.random.default_rng(seed)
        carried = lambda a: rng.normal(size=a.shape) if a.dtype == float else np.zeros(a.shape, a.dtype)
        memory = jax.tree.map(carried, like)
        return run(params, state, xs, memory=memory, reset=np.arange(T) == at, key=key)

    assert_close(found(0, 0), found(1, 0), repr(strategy), bound=0)
    assert not np.allclose(found(0, 2).grads["W"], found(1, 2).grads["W"])


def test_persistent_particles_use_the_perturbations_since_the_reset():
    """A scalar state that is linear in the parameter, for which all signs together give the exact gradient."""

    def linear(w, s, x):
        s = s + w * x
        return s, s

    reset, xs = np.array([False, False, True, False]), np.array([[1.0, 2.0, -1.0, 3.0], [0.5, 1.0, 2.0, 1.0]])

    @quick_jit
    @jax.vmap
    def both_windows(signs):
        def gradient(sign):
            class Given(PES):
                def draw(self, key, problem, params, memory, num_steps):
                    return jnp.full(memory.rows[1].shape, sign)

            estimate = sj.estimate(linear, Given(particles=2, sigma=0.5))
            return functools.partial(estimate, jnp.asarray(0.3), key=jax.random.key(0))

        one = gradient(signs[0])(jnp.zeros(()), xs[0])
        two = gradient(signs[1])(one.state, xs[1], memory=one.memory, reset=reset, initial=jnp.zeros(()))
        return one.grads + two.grads

    wanted, state = 0.0, 0.0
    for t, x in enumerate(np.concatenate(xs)):
        state = x if t == 6 else state + x  # ds/dw, which begins anew at step 2 of the second window
        wanted += state / 4
    signs = np.array([[False, False], [False, True], [True, False], [True, True]])
    assert_close(np.mean(both_windows(signs)), np.asarray(wanted), "pes")


@pytest.mark.parametrize(
    ("strategy", "argnums"),
    [(RTRL(), (0, 1)), (Full(), (0, 1, 2)), *slow((Sliding(steps=10**9), (0, 1)), (Truncated(steps=2), (0, 1, 2)))],
    ids=repr,
)
def test_every_argument_is_differentiated_through_resets(strategy, argnums):
    """Without `init_state`, steps that are reset start from the state that was given, which gets their gradient."""
    params, state, (xs, _) = arguments()
    found = quick_jit(sj.estimate(step, strategy, argnums=argnums, batched=True))(params, state, xs, reset=RESETS[0])
    _, want = by_hand(None, passes_of(strategy, T, ("h",)), params, state, xs)
    assert_close(jax.tree.leaves(found.grads), jax.tree.leaves(want[: len(argnums)]), f"{strategy}, {argnums}")


def test_a_step_without_a_state_may_have_rows_that_are_reset():
    def stateless(w, s, x):
        return s, (w * x) ** 2

    @quick_jit
    def gradients(w):
        strategies = Full(), RTRL(), Immediate()
        return [
            sj.estimate(stateless, each, batched=True)(w, (), jnp.ones((T, B)), reset=RESETS[0]).grads
            for each in strategies
        ]

    assert_close(gradients(2.0), [np.asarray(4.0)] * 3, "gradients")


def test_outputs_and_a_single_sequence():
    params, state, (xs, _) = arguments()

    def with_outputs(params, state, x):
        new, loss = step(params, state, x)
        return new, (loss, new["h"])

    row = {name: a[0] for name, a in state.items()}
    s, wanted = row, []
    for x, reset in zip(xs[:, 0], RESETS[0][:, 0], strict=True):
        s = row if reset else s
        wanted.append(np.tanh(params["W"] @ s["h"] + x + params["b"] * s["n"]))
        s = {"h": wanted[-1], "n": (s["n"] + 1) % 3}

    @quick_jit
    def outputs():
        runs = [sj.estimate(with_outputs, each, has_aux=True) for each in (Full(), RTRL())]
        return [run(params, row, xs[:, 0], reset=RESETS[0][:, 0]).outputs for run in runs]

    assert_close(outputs(), [np.stack(wanted)] * 2, "outputs")


def test_no_part_of_a_gradient_by_lag_crosses_a_reset():
    """Of each row and piece apart; the parts of the lags that a piece does not have are zero."""
    (params, state, (xs, _)), problem = arguments(), sj.Problem(step, learned)
    whole, pieces = np.full((T, B), WEIGHTS), []
    for row in range(B):
        starts = [0, *(t for t in range(1, T) if RESETS[0][t, row])]
        for first, last in itertools.pairwise([*starts, T]):
            pieces.append((last - first, np.zeros((T, B))))
            pieces[-1][1][first:last, row] = WEIGHTS
    options = {"reset": RESETS[0]}

    @quick_jit
    def parts(weights):
        full = sj.estimate(problem, Full(), batched=True)(params, state, xs, weights=weights, **options).grads
        return sj.lags(problem, params, state, xs, max_lag=T, weights=weights, batched=True, **options).gradients, full

    found, full = parts(whole)
    several = [(length, parts(weights)[0]) for length, weights in pieces]
    assert all(not np.asarray(a)[length:].any() for length, part in several for a in jax.tree.leaves(part))
    assert_close(found, jax.tree.map(lambda *a: np.sum(a, 0), *(part for _, part in several)), "pieces")
    assert_close(jax.tree.map(lambda a: np.sum(a, 0), found), full, "sum")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": np.zeros(2)}, r"pass reset, bool\[T\], too"),
        ({"reset": np.zeros(T, int)}, r"reset must be bool\[4\] or bool\[4, 2\], not int64\[4\]"),
        ({"reset": np.zeros((T, 3), bool)}, r"not bool\[4, 3\]"),
        ({"reset": np.zeros(T, bool), "initial": np.zeros(3)}, "initial must be like state, with leaves"),
    ],
)
def test_wrong_resets_are_refused(options, message):
    params, state, (xs, _) = jax.device_put(arguments())
    for call in (sj.estimate(step, Full(), batched=True), functools.partial(sj.lags, step, max_lag=2, batched=True)):
        with pytest.raises(sj.Error, match=message):
            call(params, state, xs, **options)
