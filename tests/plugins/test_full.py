"""Full backpropagation with checkpoints gives the same gradient from fewer bytes."""

import jax
import jax.numpy as jnp
import pytest

import seqjax
from seqjax import Problem, Spec, Tokens
from seqjax.gradients import Memory
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.cases import B, case
from seqjax.testing.proofs.claims import check_window

pytestmark = pytest.mark.usefixtures("x64")

PLAIN, CHECKPOINT = (seqjax.create("gradient", "full", checkpoint=checkpoint) for checkpoint in (False, True))


def jitted(strategy):
    return jax.jit(strategy, static_argnums=0)


@pytest.mark.parametrize(
    ("name", "num_steps"),
    [
        ("learned", 7),
        *(pytest.param("learned", steps, marks=pytest.mark.slow) for steps in (1, 2, 16)),
        *(pytest.param(name, 17, marks=pytest.mark.slow) for name in ("cell", "foreign")),
    ],
)
def test_any_number_of_steps_in_segments_is_one_unroll(name, num_steps):
    c = case(name)
    whole = jax.tree.map(lambda *a: jnp.concatenate(a), *[(b.xs, b.weights) for b in c.windows])
    xs, weights = jax.tree.map(lambda a: a[:num_steps], whole)
    batch = c.windows[1]._replace(xs=xs, weights=weights)
    plain, segments = (
        strategy(c.problem, c.params, c.state, Memory(), batch) for strategy in map(jitted, (PLAIN, CHECKPOINT))
    )
    assert_close(segments, plain, f"{name}, {num_steps} steps", 1e-14)


def test_segments_by_brute_force():
    check_window(CHECKPOINT, cases=["learned"])


def test_segments_take_a_tenth_of_the_bytes():
    num_steps, problem = 900, Problem.of(seqjax.create("model", "rnn", hidden=16), Spec(Tokens(5)))
    params = problem.model.init(jax.random.key(0), problem.spec)
    state = jax.vmap(lambda _: problem.init_state(params))(jnp.arange(B))
    ids = jnp.zeros((num_steps, B), jnp.int32)
    batch = case("cell").windows[0]._replace(xs=(ids, ids), weights=jnp.full((num_steps, B), 1.0))
    plain, segments = (
        jitted(strategy).lower(problem, params, state, Memory(), batch).compile().memory_analysis().temp_size_in_bytes
        for strategy in (PLAIN, CHECKPOINT)
    )
    assert 10 * segments < plain
