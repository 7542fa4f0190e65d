"""What a strategy must satisfy. Real strategies pass these checks, and planted faults fail them.

Each check raises AssertionError with the worst error, and returns it otherwise.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from oracle import CASES, FRESH, B, Case, Learned, T, Truth, case, truth, truth_of_rows
from scipy.stats import chi2

import seqjax
from seqjax import Batch, Estimate, Memory, Model, Plan, Problem, Sampler, Spec, Stream, Values

BOUND = 1e-12
KEY = 17
"""Seed of whatever a check draws."""


def assert_close(got: Any, want: Any, what: str, bound: float = BOUND) -> float:
    """Leaf by leaf, relative to the leaf's largest entry; keys, counters and zeros exactly."""
    assert jax.tree.structure(got) == jax.tree.structure(want), f"{what}: other structure"
    worst = 0.0
    for (path, w), g in zip(jax.tree.leaves_with_path(want), jax.tree.leaves(got), strict=True):
        g, w = _numbers(g), _numbers(w)
        assert g.shape == w.shape, f"{what}{jax.tree_util.keystr(path)}: shape {g.shape}, not {w.shape}"
        if w.size:
            error = float(np.max(np.abs(g - w)) / (np.max(np.abs(w)) or 1.0))
            name = what + jax.tree_util.keystr(path)
            assert error <= bound, f"{name}: worst relative error {error:.1e} > {bound:.0e}"
            worst = max(worst, error)
    return worst


def _numbers(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf, np.float64)


def assert_far(got: Any, want: Any, what: str, at_least: float = 1e-3) -> None:
    """Not close: some leaf is off by more than `at_least`."""
    try:
        assert_close(got, want, what, at_least)
    except AssertionError:
        return
    raise AssertionError(f"{what}: differs by less than {at_least:.0e}")


@functools.partial(jax.jit, static_argnums=(0, 1))
def call(strategy, problem, params, state, memory, batch, key) -> Estimate:
    """A strategy, jitted once for each problem and shape."""
    return strategy(problem, params, state, memory, batch, key)


def initial_memory(strategy, problem, params, state) -> Memory:
    """Memory for rows that start in `state`: a row's part stacked, the shared part that of any row."""
    memory = jax.vmap(functools.partial(strategy.init, problem), (None, 0), axis_size=B)(params, state)
    return memory._replace(shared=jax.tree.map(lambda a: a[0], memory.shared))


def estimates(strategy, c: Case, windows: list[Batch] | None = None) -> list[Estimate]:
    """One for each window, state and memory carried, each with a key of its own."""
    state, memory, found = c.state, initial_memory(strategy, c.problem, c.params, c.state), []
    for i, batch in enumerate(c.windows if windows is None else windows):
        key = jax.random.key(KEY + i)
        found.append(call(strategy, c.problem, c.params, state, memory, batch, key))
        state, memory = found[-1].state, found[-1].memory
    return found


def check_window(strategy, gates=None, cases=CASES) -> float:
    """Loss, state and gradient of each of three windows, of which each takes its incoming state as constant."""
    worst = 0.0
    for name in cases:
        for w, estimate in enumerate(estimates(strategy, case(name))):
            want = truth(name, w, w + 1, gates)
            worst = max(worst, assert_close(Truth(*estimate[:3]), want, f"{name}, window {w}"))
    return worst


def check_values(strategy, cases=CASES) -> float:
    """Loss and state of each of three windows: how a gradient is taken changes neither."""
    worst = 0.0
    for name in cases:
        for w, estimate in enumerate(estimates(strategy, case(name))):
            want = truth(name, w, w + 1)
            error = assert_close((estimate.loss, estimate.state), (want.loss, want.state), f"{name}, window {w}")
            worst = max(worst, error)
    return worst


def check_history(strategy, cases=CASES) -> float:
    """The gradients of three windows add up to that of the whole sequence."""
    worst = 0.0
    for name in cases:
        found = estimates(strategy, case(name))
        loss, grads = jax.tree.map(lambda *a: sum(a), *[(e.loss, e.grads) for e in found])
        want = truth(name, 0, len(found))
        got = Truth(loss, grads, found[-1].state)
        worst = max(worst, assert_close(got, want, f"{name}, three windows"))
    return worst


def check_initial_state(strategy) -> None:
    """A learned initial state gets its gradient from fresh rows, and none from the others."""
    for name, leaf in (("learned", "h0"), ("foreign", "v0")):
        c = case(name)
        memory = initial_memory(strategy, c.problem, c.params, c.state)
        for fresh in (False, True):
            batch = c.windows[0]._replace(fresh=jnp.full(B, fresh))
            estimate = call(strategy, c.problem, c.params, c.state, memory, batch, jax.random.key(KEY))
            got = float(jnp.abs(estimate.grads[leaf]).max())
            assert (got > 1e-3) == fresh, f"{name}: gradient of {leaf} is {got:.1e} where fresh is {fresh}"
            assert fresh or got == 0, f"{name}: gradient of {leaf} is {got:.1e}, not 0"


@functools.partial(jax.jit, static_argnums=(0, 1))
def expectations(strategy, problem, params, state, memories, batch):
    """Of ONE row, for each of K memories: mean loss and gradient, sum of probabilities, memory after each outcome.

    Leaves of `state` and of a batch's row have no axis B, those of `memories.rows` are [K, ...].
    """
    one_row = lambda tree, axis=0: jax.tree.map(lambda a: jnp.expand_dims(a, axis), tree)
    xs, weights = one_row((batch.xs, batch.weights), 1)
    batch = Batch(xs, weights, *one_row((batch.fresh, batch.rows)))

    def start(params):
        initial = problem.init_state(params)
        return one_row(jax.tree.map(lambda a, b: jnp.where(batch.fresh[0], a, b), initial, state))

    def given(rows):
        noise, probability = strategy.outcomes(Memory(memories.shared, rows), T)

        def estimate(noise):
            memory = Memory(memories.shared, one_row(rows))
            return strategy.estimate(problem, params, start, memory, batch, one_row(noise))

        e = jax.vmap(estimate)(noise)
        loss, grads = jax.tree.map(lambda a: jnp.tensordot(probability, a, 1), (e.loss, e.grads))
        return loss, grads, probability.sum(), jax.tree.map(lambda a: a[:, 0], e.memory.rows)

    return jax.vmap(given, axis_size=MEMORIES)(memories.rows)


MEMORIES = 2**T
"""How many memories a window is checked with: room for what each outcome of T cuts leaves, repeated to fit."""


def check_unbiased(strategy, starts=(), cases=("learned", "foreign")) -> float:
    """For each row and window, whatever is remembered: outcomes times probabilities sum to the true gradient.

    The first window begins with the strategy's own memory and with each of `starts`, memories of one row; the
    second with what every outcome of the first leaves; the third with what every outcome of one of those leaves.
    """
    worst = 0.0
    for name in cases:
        c = case(name)
        for b in range(B):
            state = jax.tree.map(lambda a: a[b], c.state)  # noqa: B023
            memories = _stack([strategy.init(c.problem, c.params, state), *starts])
            for w, batch in enumerate(c.windows):
                want = truth_of_rows(name, w, w + 1)[b]
                if FRESH[w][b]:
                    state = c.initial(c.params)
                    memories = _stack([strategy.init(c.problem, c.params, state)])
                xs, weights = jax.tree.map(lambda a: a[:, b], (batch.xs, batch.weights))  # noqa: B023
                row = Batch(xs, weights, batch.fresh[b], batch.rows[b])
                *found, left = expectations(strategy, c.problem, c.params, state, memories, row)
                wanted = jax.tree.map(lambda a: np.broadcast_to(a, (MEMORIES, *a.shape)), (*want[:2], np.ones(())))
                worst = max(worst, assert_close(tuple(found), wanted, f"{name}, row {b}, window {w}"))
                state = want.state
                memories = Memory(memories.shared, jax.tree.map(lambda a: a[MEMORIES // 3], left))
    return worst


def _stack(memories):
    repeated = [memories[i % len(memories)].rows for i in range(MEMORIES)]
    return Memory(memories[0].shared, jax.tree.map(lambda *a: jnp.stack(a), *repeated))


def check_draw(strategy, memory=None, num_steps=4, num_draws=20_000) -> float:
    """`draw` follows the probabilities of `outcomes`: chi-square of 20,000 draws, one false alarm in 10^9."""
    memory = Memory() if memory is None else memory
    outcomes, probability = strategy.outcomes(memory, num_steps)
    keys = jax.random.split(jax.random.key(KEY), num_draws)
    drawn = jax.vmap(lambda key: strategy.draw(key, memory, num_steps))(keys)
    flat = lambda noise: np.concatenate([np.reshape(a, (len(a), -1)) for a in jax.tree.leaves(noise)], 1)
    same = (flat(drawn)[:, None] == flat(outcomes)).all(-1)
    assert (same.sum(1) == 1).all(), "a draw that is no outcome, or outcomes that repeat"
    expected = num_draws * np.asarray(probability, np.float64)
    statistic = float(np.sum((same.sum(0) - expected) ** 2 / expected))
    limit = float(chi2.isf(1e-9, len(expected) - 1))
    assert statistic <= limit, f"chi-square {statistic:.1f} > {limit:.1f}"
    return statistic


def check_ages(strategy, num_calls=60) -> None:
    """Where no edge is cut a carried row's age grows by T, and a fresh row's is T."""
    c = case("learned")
    memory = Memory(rows=jnp.array([3, 100, 200], jnp.int32))
    keys = jax.random.split(jax.random.key(KEY), num_calls)
    after = [call(strategy, c.problem, c.params, c.state, memory, c.windows[0], key).memory.rows for key in keys]
    oldest = np.max(after, 0).tolist()
    assert FRESH[0] == (True, False, False)
    assert oldest == [T, 100 + T, 200 + T], f"ages after a window are at most {oldest}"


def check_mean_of_calls(strategy, memory: Memory, num_calls=4096) -> float:
    """Whole calls average to the true gradient, what a row remembers included: z-scores below 6."""
    c, batch = case("learned"), case("learned").windows[1]
    state, want = truth("learned", 0, 1).state, truth("learned", 1, 2).grads
    grads = jax.vmap(lambda key: strategy(c.problem, c.params, state, memory, batch, key).grads)
    got, worst = jax.jit(grads)(jax.random.split(jax.random.key(KEY), num_calls)), 0.0
    for name in want:
        error = np.maximum(got[name].std(0) / np.sqrt(num_calls), BOUND)
        z = float(np.max(np.abs(got[name].mean(0) - want[name]) / error))
        assert z < 6, f"{name}: z-score {z:.1f}"
        worst = max(worst, z)
    return worst


def check_rows_draw_apart(strategy, num_calls=8) -> None:
    """Rows alike in all but their number, and one row at several calls, get gradients that differ."""
    c = case("learned")
    alike = lambda tree, axis: jax.tree.map(lambda a: jnp.take(a, jnp.zeros(B, int), axis), tree)
    memory = initial_memory(strategy, c.problem, c.params, c.state)
    batch = c.windows[0]._replace(xs=alike(c.windows[0].xs, 1), fresh=jnp.zeros(B, bool))
    found = set()
    for key in jax.random.split(jax.random.key(KEY), num_calls):
        for b in range(B):
            row = batch._replace(weights=jnp.where(jnp.arange(B) == b, 1 / T, jnp.zeros((T, B))))
            grads = call(strategy, c.problem, c.params, alike(c.state, 0), memory, row, key).grads
            found.add(float(np.float32(grads["W"][0, 0])))  # float32: rows may differ in the last bit
    # some of the 2^(T - 1) patterns come twice; rows alike would leave num_calls values, calls alike B
    assert len(found) > num_calls * B / 2, f"{num_calls * B} draws give only {len(found)} values of the gradient of W"


def check_rows(strategy, cases=("learned", "foreign")) -> float:
    """Rows in another order change nothing; one row's part of the sum depends on nothing of the others."""
    worst = 0.0
    order = np.array([2, 0, 1])
    for name in cases:
        c = case(name)
        moved = c._replace(
            state=jax.tree.map(lambda a: a[order], c.state),
            windows=[
                Batch(
                    jax.tree.map(lambda a: a[:, order], batch.xs),
                    batch.weights[:, order],
                    batch.fresh[order],
                    batch.rows[order],
                )
                for batch in c.windows
            ],
        )
        state, memory = c.state, initial_memory(strategy, c.problem, c.params, c.state)
        for w, (whole, other) in enumerate(zip(estimates(strategy, c), estimates(strategy, moved), strict=True)):
            what = f"{name}, window {w}"
            want = jax.tree.map(lambda a: a[order], (whole.state, whole.memory.rows))
            got = other.state, other.memory.rows
            error = assert_close((other.loss, other.grads, got), (whole.loss, whole.grads, want), f"{what}, moved")
            parts = [
                call(strategy, c.problem, c.params, *only_row(b, state, memory, c.windows[w]), jax.random.key(KEY + w))
                for b in range(B)
            ]
            got = jax.tree.map(lambda *a: sum(a), *[(e.loss, e.grads) for e in parts])
            worst = max(worst, error, assert_close(got, (whole.loss, whole.grads), f"{what}, row by row"))
            state, memory = whole.state, whole.memory
    return worst


def only_row(b, state, memory, batch):
    """Row b as it is; the others weigh nothing, read something else and start in another's state."""
    mine = np.arange(B) == b
    xs = jax.tree.map(lambda a: a.at[:, ~mine].set(jnp.roll(a, 1, 0)[:, ~mine]), batch.xs)
    state = jax.tree.map(lambda a: a[np.where(mine, np.arange(B), (b + 1) % B)], state)
    return state, memory, batch._replace(xs=xs, weights=jnp.where(mine, batch.weights, 0))


def check_padding(strategy, cases=("learned", "foreign")) -> float:
    """What is read after a row's last scored step changes neither loss nor gradient."""
    worst = 0.0
    for name in cases:
        c = case(name)
        memory = initial_memory(strategy, c.problem, c.params, c.state)
        batch = c.windows[0]._replace(weights=c.windows[0].weights.at[-2:, 1].set(0))
        other = batch._replace(xs=jax.tree.map(lambda a: a.at[-2:, 1].set(a[:2, 0]), batch.xs))
        one, two = (
            call(strategy, c.problem, c.params, c.state, memory, each, jax.random.key(KEY)) for each in (batch, other)
        )
        worst = max(worst, assert_close((two.loss, two.grads), (one.loss, one.grads), name))
        assert_far(two.state, one.state, f"{name}: the state, so that the padding was read")
    return worst


def check_gates(problem: Problem, name: str) -> float:
    """A problem's `unroll` multiplies the tangent that enters step t by gates[t]; T or T x B numbers, or none."""
    c, worst = case(name), 0.0
    entering = truth(name, 0, 1).state
    rng = np.random.default_rng(3)
    gates_T, gates_TB = rng.uniform(-1, 2, T), rng.uniform(-1, 2, (T, B))
    gates_T[2] = gates_TB[4, 1] = 0
    for gates in (None, gates_T, np.repeat(gates_T[:, None], B, 1), gates_TB):
        array = None if gates is None else jnp.asarray(gates)
        got = _gated(problem, c.params, entering, c.windows[1], array)
        worst = max(worst, assert_close(got, truth(name, 1, 2, gates), f"{name}, gates {np.shape(gates)}"))
    return worst


@functools.partial(jax.jit, static_argnums=0)
def _gated(problem, params, state, batch, gates):
    def loss(params):
        initial = problem.init_state(params)
        fresh = lambda a: batch.fresh.reshape(B, *[1] * (a.ndim - 1))
        start = jax.tree.map(lambda a, b: jnp.where(fresh(b), a, b), initial, state)
        after, losses = problem.unroll(params, start, batch.xs, gates)
        return jnp.sum(batch.weights * losses), after

    (total, after), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return Truth(total, grads, after)


SGD, LEARNED = optax.sgd(0.5), Learned()


@dataclass(frozen=True)
class ThreeBatches(Sampler):
    """The first of another sampler's, so that epochs of every sampler share one compiled program."""

    sampler: Sampler
    batch_size: int = 4
    num_steps: int = 12

    def plan(self, bounds, rng):
        return Plan(*(part[:3] for part in self.sampler.plan(bounds, rng)))


def stream() -> Stream:
    """Three documents with a mask: devices score unequal counts, rows start midway."""
    rng, n = np.random.default_rng(4), 180
    inputs, targets = rng.normal(size=(n, 2)), rng.normal(size=(n, 1))
    return Stream(inputs, targets, np.array([0, 60, 71, n]), rng.random(n) < 0.7)


def three_batches(sampler: str) -> Sampler:
    return ThreeBatches(seqjax.create("sampler", sampler, batch_size=4, num_steps=12))


def train(strategy, sampler: str, devices: int, model: Model = LEARNED) -> tuple[Any, dict[str, Any]]:
    """State and metrics after three updates."""
    problem = Problem.of(model, Spec(Values(2), Values(1)))
    options = {"sampler": three_batches(sampler), "gradient": strategy, "optimizer": SGD, "epochs": 1}
    return next(seqjax.training(problem, stream(), **options, devices=devices))


def check_devices(strategy, sampler: str, model: Model = LEARNED) -> float:
    """Training on one and on two devices ends in the same state."""
    (one, row), (two, other_row) = (train(strategy, sampler, devices, model) for devices in (1, 2))
    metrics = lambda row: [np.asarray(row[name]) for name in ("train_loss", "grad_norm", "tokens")]
    return assert_close((two, metrics(other_row)), (one, metrics(row)), f"{sampler}, two devices")
