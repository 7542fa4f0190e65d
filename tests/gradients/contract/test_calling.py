"""How strategies are called: memory, keys, dtypes, vmap, and states of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.strategies import Full, KeyAsNoise, Noisy, Randomized

import seqjax
from seqjax import Problem, Spec, Values, estimate
from seqjax.gradients import Memory, ravel_float
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.calls import KEY, call, initial_memory
from seqjax.testing.proofs.cases import B, T, case, small_init, small_step
from seqjax.testing.quick_jit import quick_jit

NAMES = seqjax.names("gradient")


def test_value_and_grad_resets_no_row_of_a_problem(x64):
    c = case("small")

    @quick_jit
    def both(*args):
        return [estimate(problem, Full(), batched=True)(*args) for problem in (c.problem, small_step)]

    assert c.problem == Problem(small_step, small_init)
    assert_close(*both(c.params, c.state, c.windows[0].xs), "a problem with an init_state, and its step alone")


def test_without_init_state_reset_rows_keep_what_they_are_given(x64):
    c, batch, problem = case("small"), case("small").windows[0], Problem(small_step)
    reset, carried = (
        call(Full(), problem, c.params, c.state, Memory(), batch._replace(reset=np.full(B, flag)), None)
        for flag in (True, False)
    )
    assert_close(reset, carried, "reset rows")


@pytest.mark.parametrize("name", [name for name in NAMES if seqjax.create("gradient", name).draws])
def test_a_strategy_that_draws_asks_for_a_key(name, x64):
    c, strategy = case("cell"), seqjax.create("gradient", name)
    with pytest.raises(seqjax.Error, match=r"pass a key, such as key=jax\.random\.key"):
        jax.eval_shape(estimate(c.problem, strategy, batched=True), c.params, c.state, c.windows[0].xs)


def test_keep_prob_of_another_length_is_refused(x64):
    c, strategy = case("small"), Randomized(keep_prob=(0.5,) * (T - 1))
    with pytest.raises(seqjax.Error, match=rf"keep_prob has {T - 1} entries for windows of {T} steps.*give one"):
        jax.eval_shape(
            estimate(c.problem, strategy, batched=True), c.params, c.state, c.windows[0].xs, key=jax.random.key(0)
        )
    with pytest.raises(seqjax.Error, match="keep_prob"):
        strategy.outcomes(c.problem, c.params, Memory(), T)


def test_a_strategy_that_draws_has_to_list_its_outcomes(x64):
    class Drawing(Full):
        def draw(self, key, problem, params, memory, num_steps):
            return jax.random.normal(key)

    args = case("small").problem, case("small").params, Memory(), T
    with pytest.raises(NotImplementedError, match="Drawing"):
        Drawing().outcomes(*args)
    noise, probability = Full().outcomes(*args)
    assert (noise, probability.tolist()) == ((), [1.0])


def noisy(with_key):
    problem, c = Problem.of(Noisy(), Spec(Values(2), Values(1))), case("learned")
    return problem, c.state | ({"key": jax.random.split(jax.random.key(1), B)} if with_key else {})


def test_each_row_has_keys_of_its_global_number(x64):
    """One key for the model's initial state, and another one for the strategy's draw."""
    c, (problem, state) = case("learned"), noisy(with_key=True)
    batch, memory = (
        c.windows[0]._replace(reset=np.ones(B, bool)),
        initial_memory(KeyAsNoise(), problem, c.params, state),
    )
    found = []
    for rows in ([0, 1, 2, 3], [4, 2, 0, 5]):
        at = batch._replace(rows=np.array(rows, np.int32))
        after = call(KeyAsNoise(), problem, c.params, state, memory, at, jax.random.key(KEY))
        found += [map(tuple, jax.random.key_data(keys).tolist()) for keys in (after.state["key"], after.memory.rows)]
    first, second = (list(zip(*found[i : i + 2], strict=True)) for i in (0, 2))
    assert second[1:3] == [first[2], first[0]]
    assert len({key for keys in (*first, *second) for key in keys}) == 12


@pytest.mark.parametrize(("with_key", "name"), [(True, "full"), (True, "rtrl"), (False, "randomized")])
def test_a_carried_state_decides_whether_the_model_is_random(with_key, name, x64):
    """No row is reset, so the initial state that the model would have with this call's key plays no role."""
    (problem, state), c = noisy(with_key), case("learned")
    strategy = seqjax.create("gradient", name)
    key = None if with_key else jax.random.key(KEY)
    found = jax.eval_shape(estimate(problem, strategy, batched=True), c.params, state, c.windows[0].xs, key=key)
    assert ("key" in found.state) == with_key


MIXED = {
    "float": np.arange(6.0).reshape(2, 3),
    "scalar": np.array(7.0),
    "count": np.array([3, 4], np.int32),
    "flag": np.array([True]),
    "empty": np.zeros((0, 2)),
}


FLOATS = ("float", "scalar", "empty")


@pytest.mark.parametrize(
    ("names", "with_key"),
    [((), False), ((), True), (FLOATS, False), (("count", "flag"), True), (tuple(MIXED), True)],
    ids=repr,
)
def test_ravel_float_gives_the_tree_back(names, with_key, x64):
    tree = {name: MIXED[name] for name in names} | ({"key": jax.random.key(5)} if with_key else {})
    floats = [name for name in FLOATS if name in names]

    @quick_jit
    def vector_and_twice(tree):
        vector, others, join = ravel_float([tree, (tree,)])
        assert len(others) == 2 * (len(tree) - len(floats))
        return vector, join(2 * vector, others)

    vector, twice = vector_and_twice(tree)
    assert vector.tolist() == 2 * [v for name in sorted(floats) for v in MIXED[name].ravel().tolist()]
    want = [t | {name: 2 * t[name] for name in floats} for t in (tree, tree)]
    assert_close(twice, [want[0], (want[1],)], "joined", 0)
    assert jax.tree.map(lambda a: a.dtype, twice) == jax.tree.map(lambda a: a.dtype, [tree, (tree,)])


def test_ravel_float_keeps_each_leafs_precision():
    def back(tree):
        vector, others, join = ravel_float(tree)
        return join(vector, others)

    tree = {name: jax.ShapeDtypeStruct((2,), dtype) for name, dtype in (("half", jnp.bfloat16), ("single", np.float32))}
    found = jax.eval_shape(back, tree)
    assert jax.tree.map(lambda a: a.dtype, found) == jax.tree.map(lambda a: a.dtype, tree)
