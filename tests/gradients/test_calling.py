"""How strategies are called: defaults, keys, dtypes, vmap, states of every kind, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import KEY, assert_close, assert_far, call, initial_memory
from oracle import B, Learned, Noisy, T, case, foreign_init, foreign_step
from strategies import RTRL, Full, KeyAsNoise, Open, Randomized

import seqjax
from seqjax import Memory, Problem, Spec, Values, ravel_float, value_and_grad

NAMES = seqjax.names("gradient")
DRAWS = [name for name in NAMES if seqjax.create("gradient", name).draws]


@pytest.mark.parametrize(
    ("name", "step"),
    [*((name, foreign_step) for name in NAMES), ("full", Problem(foreign_step, foreign_init))],
    ids=lambda a: a if isinstance(a, str) else type(a).__name__,
)
def test_value_and_grad_weighs_every_step_alike_and_starts_no_row(name, step, x64):
    c, strategy, key = case("foreign"), seqjax.create("gradient", name), jax.random.key(KEY)
    even = c.windows[0]._replace(weights=jnp.full((T, B), 1 / (T * B)), fresh=jnp.zeros(B, bool))
    memory = initial_memory(strategy, c.problem, c.params, c.state)
    want = call(strategy, c.problem, c.params, c.state, memory, even, key)
    got = jax.jit(value_and_grad(step, strategy))(c.params, c.state, even.xs, key=key)
    assert_close(got, want, name)


def test_value_and_grad_carries_memory(x64):
    # two chunks of rtrl are one long window, whatever their lengths
    c, batch = case("foreign"), case("foreign").windows[0]
    run = jax.jit(value_and_grad(foreign_step, RTRL()))
    whole = run(c.params, c.state, batch.xs, weights=batch.weights)
    state, memory, parts = c.state, None, []
    for part in (slice(0, 2), slice(2, T)):
        xs, weights = jax.tree.map(lambda a: a[part], (batch.xs, batch.weights))  # noqa: B023
        parts.append(run(c.params, state, xs, memory=memory, weights=weights))
        state, memory = parts[-1].state, parts[-1].memory
    summed = jax.tree.map(lambda *a: sum(a), *[(e.loss, e.grads) for e in parts])
    assert_close((summed, state, memory), ((whole.loss, whole.grads), whole.state, whole.memory), "two chunks")


def test_without_init_state_fresh_rows_keep_what_they_are_given(x64):
    c, batch = case("foreign"), case("foreign").windows[0]
    problem, memory = Problem(foreign_step), Memory()
    fresh, carried = (
        call(Full(), problem, c.params, c.state, memory, batch._replace(fresh=jnp.full(B, flag)), jax.random.key(0))
        for flag in (True, False)
    )
    assert_close(fresh, carried, "fresh rows")


@pytest.mark.parametrize("name", DRAWS)
def test_a_missing_key_is_asked_for(name):
    c = case("learned")
    with pytest.raises(seqjax.Error, match=r"pass a key, such as key=jax\.random\.key"):
        value_and_grad(c.problem, seqjax.create("gradient", name))(c.params, c.state, c.windows[0].xs)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DRAWS)))
def test_no_key_is_needed_where_nothing_is_drawn(name):
    c = case("learned")
    run = jax.jit(value_and_grad(c.problem, seqjax.create("gradient", name)))
    estimate = run(c.params, c.state, c.windows[0].xs)
    assert np.isfinite(estimate.loss)


def test_keep_prob_of_another_length_is_refused():
    c, strategy = case("learned"), Randomized(keep_prob=(0.5,) * (T - 1))
    with pytest.raises(seqjax.Error, match=rf"keep_prob has {T - 1} entries for windows of {T} steps.*give one"):
        value_and_grad(c.problem, strategy)(c.params, c.state, c.windows[0].xs, key=jax.random.key(0))
    with pytest.raises(seqjax.Error, match="keep_prob"):
        strategy.outcomes(Memory(), T)


def test_outcomes_are_not_made_up():
    class Drawing(Full):
        def draw(self, key, memory, num_steps):
            return jax.random.normal(key)

    with pytest.raises(NotImplementedError, match="Drawing"):
        Drawing().outcomes(Memory(), T)
    noise, probability = Full().outcomes(Memory(), T)
    assert (noise, probability.tolist()) == ((), [1.0])


@pytest.mark.parametrize("kept", ["parameters", "half"])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_keeps_the_dtype_of_loss_and_gradient(name, kept):
    c, strategy, key = case("learned"), seqjax.create("gradient", name), jax.random.key(KEY)
    spec = Spec(Values(2), Values(1))
    half = Problem.of(Learned(), spec, dtype=jnp.bfloat16)
    float_dtype = jnp.bfloat16 if kept == "half" else jnp.float32
    state = c.state | {"h": c.state["h"].astype(float_dtype)}
    got, want = (
        call(strategy, problem, c.params, s, initial_memory(strategy, problem, c.params, s), c.windows[0], key)
        for problem, s in ((half, state), (c.problem, c.state))
    )
    assert {a.dtype for a in jax.tree.leaves((got.loss, got.grads))} == {jnp.dtype(jnp.float32)}
    assert got.state["h"].dtype == float_dtype
    assert_close((got.loss, got.grads), (want.loss, want.grads), name, 0.05)
    assert_far((got.loss, got.grads), (want.loss, want.grads), "computed in bfloat16", 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_vmap_over_parameters_and_seeds(name, x64):
    c, strategy = case("learned"), seqjax.create("gradient", name)
    memory, batch = initial_memory(strategy, c.problem, c.params, c.state), c.windows[0]
    params = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), c.params)
    keys = jax.random.split(jax.random.key(KEY), 2)
    both = jax.vmap(lambda p, key: call(strategy, c.problem, p, c.state, memory, batch, key))(params, keys)
    for i in range(2):
        p, got = jax.tree.map(lambda a: a[i], (params, both))  # noqa: B023
        assert_close(got, call(strategy, c.problem, p, c.state, memory, batch, keys[i]), f"{name}, seed {i}")


def test_vmap_over_a_hyper_parameter(x64):
    c, batch, key = case("learned"), case("learned").windows[0], jax.random.key(KEY)

    def grads(keep_prob):
        return Open(keep_prob=keep_prob)(c.problem, c.params, c.state, Memory(), batch, key).grads

    probabilities = jnp.array([0.3, 1.0])
    got = jax.jit(jax.vmap(grads))(probabilities)
    for i, keep_prob in enumerate((0.3, 1.0)):
        want = call(Randomized(keep_prob=keep_prob), c.problem, c.params, c.state, Memory(), batch, key)
        assert_close(jax.tree.map(lambda a: a[i], got), want.grads, f"keep_prob {keep_prob}")  # noqa: B023


def lag_step(w, last, x):
    """A state that holds inputs only, so that there is nothing to differentiate through."""
    return x, (w[x] - w[last]) ** 2


def lone_step(w, nothing, x):
    """No state at all."""
    return nothing, w[x] ** 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("step", "state"), [(lag_step, np.arange(B, dtype=np.int32)), (lone_step, ())])
def test_a_state_without_floats(step, state, name, x64):
    w, ids = jnp.array([0.3, -1.0, 2.0, 0.7]), jnp.asarray(np.arange(T * B).reshape(T, B) % 4, jnp.int32)
    weights = case("learned").windows[0].weights
    state = jax.tree.map(jnp.asarray, state)

    def total(w):
        losses = [step(w, ids[t - 1, b] if t else jnp.int32(b), ids[t, b])[1] for t in range(T) for b in range(B)]
        return jnp.vdot(jnp.stack(losses), weights.ravel())

    strategy = seqjax.create("gradient", name)
    got = jax.jit(value_and_grad(step, strategy))(w, state, ids, weights=weights, key=jax.random.key(0))
    assert_close((got.loss, got.grads), jax.value_and_grad(total)(w), name)


def noisy(with_key):
    problem, c = Problem.of(Noisy(), Spec(Values(2), Values(1))), case("learned")
    return problem, c.state | ({"key": jax.random.split(jax.random.key(1), B)} if with_key else {})


def test_each_row_has_keys_of_its_global_number(x64):
    # one for the model's initial state and another for the strategy's draw
    c, (problem, state) = case("learned"), noisy(with_key=True)
    batch = c.windows[0]._replace(fresh=jnp.ones(B, bool))
    memory = initial_memory(KeyAsNoise(), problem, c.params, state)
    found = []
    for rows in ([0, 1, 2], [4, 2, 0]):
        at = batch._replace(rows=jnp.array(rows, jnp.int32))
        after = call(KeyAsNoise(), problem, c.params, state, memory, at, jax.random.key(KEY))
        found += [map(tuple, jax.random.key_data(keys).tolist()) for keys in (after.state["key"], after.memory.rows)]
    first, second = (list(zip(*found[i : i + 2], strict=True)) for i in (0, 2))
    assert second[1:] == [first[2], first[0]]
    assert len({key for keys in (*first, *second) for key in keys}) == 8


@pytest.mark.parametrize(("with_key", "name"), [(True, "full"), (True, "rtrl"), (False, "randomized")])
def test_a_carried_state_decides_whether_the_model_is_random(with_key, name, x64):
    # no row is fresh, so what `init_state` would give for this call's key is of no concern
    (problem, state), c = noisy(with_key), case("learned")
    strategy = seqjax.create("gradient", name)
    key = None if with_key else jax.random.key(KEY)
    estimate = jax.jit(value_and_grad(problem, strategy))(c.params, state, c.windows[0].xs, key=key)
    assert ("key" in estimate.state) == with_key


MIXED = {
    "float": np.arange(6.0).reshape(2, 3),
    "scalar": np.array(7.0),
    "count": np.array([3, 4], np.int32),
    "flag": np.array([True]),
    "empty": np.zeros((0, 2)),
}


@pytest.mark.parametrize("names", [(), ("float", "scalar", "empty"), ("count", "flag"), tuple(MIXED)], ids=repr)
@pytest.mark.parametrize("with_key", [False, True])
def test_ravel_float_gives_the_tree_back(names, with_key, x64):
    tree = {name: jnp.asarray(MIXED[name]) for name in names} | ({"key": jax.random.key(5)} if with_key else {})
    vector, others, join = ravel_float([tree, (tree,)])
    floats = [name for name in ("float", "scalar", "empty") if name in names]
    assert vector.tolist() == 2 * [v for name in sorted(floats) for v in MIXED[name].ravel().tolist()]
    assert len(others) == 2 * (len(tree) - len(floats))
    twice = join(2 * vector, others)
    want = [t | {name: 2 * t[name] for name in floats} for t in (tree, tree)]
    assert_close(twice, [want[0], (want[1],)], "joined", 0)
    assert jax.tree.map(lambda a: a.dtype, twice) == jax.tree.map(lambda a: a.dtype, [tree, (tree,)])


def test_ravel_float_keeps_each_leafs_precision():
    tree = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(3, jnp.float32)}
    vector, others, join = ravel_float(tree)
    assert jax.tree.map(lambda a: a.dtype, join(vector, others)) == jax.tree.map(lambda a: a.dtype, tree)
