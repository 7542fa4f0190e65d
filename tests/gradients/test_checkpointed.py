"""Checkpoints change the bytes of a reverse pass, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Problem, value_and_grad
from seqjax.gradients import Checkpointed
from seqjax.gradients.checkpointed import segment_size
from seqjax.testing.compare import assert_close
from seqjax_gradients import Discounted, Full
from seqjax_models import GRU, MLP

H, B = 16, 4


def step(params, h, x):
    h = jnp.tanh(params["W"] @ h + params["U"] @ x)
    return h, jnp.mean(h**2)


def arguments(num_steps, hidden=H):
    rng = np.random.default_rng(0)
    params = {"W": jnp.asarray(rng.normal(size=(hidden, hidden)) / hidden**0.5, float), "U": jnp.ones((hidden, 2))}
    return (
        params,
        jnp.asarray(rng.normal(size=(B, hidden)), float),
        jnp.asarray(rng.normal(size=(num_steps, B, 2)), float),
    )


@pytest.mark.parametrize("num_steps", [1, 2, 7, 16, 30])
@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_the_gradient_is_the_same(levels, num_steps, x64):
    args = arguments(num_steps)
    found, want = (jax.jit(value_and_grad(step, each, (0, 1, 2)))(*args) for each in (Full(levels=levels), Full()))
    assert_close(found, want, f"{levels} levels")


def test_edge_weights_compose(x64):
    args = arguments(30)
    strategy = Discounted(discount=0.7)
    found, want = (
        jax.jit(value_and_grad(problem, strategy))(*args) for problem in (Checkpointed(Problem(step), 2), step)
    )
    assert_close(found, want, "discounted")


def test_a_fused_model_composes(x64):
    model, spec = GRU(hidden=5), seqjax.Spec(seqjax.Tokens(4))
    problem, ids = Problem.of(model, spec), jax.random.randint(jax.random.key(0), (31, B), 0, 4)
    params = model.init(jax.random.key(1), spec)
    args = params, problem.init_rows(params, B), (ids[:-1], ids[1:])
    found, want = (jax.jit(value_and_grad(problem, each))(*args) for each in (Full(levels=2), Full()))
    assert_close(found, want, "gru")


@pytest.mark.parametrize(
    ("num_steps", "levels", "size"), [(16, 1, 4), (17, 1, 4), (27, 2, 9), (1000, 2, 100), (1, 3, 1)]
)
def test_segments_have_equal_numbers_of_steps_at_all_levels(num_steps, levels, size):
    assert segment_size(num_steps, levels) == size


def measured(strategy, args):
    run = jax.jit(lambda *args: value_and_grad(step, strategy)(*args)[:2])
    return run.lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_more_levels_take_fewer_bytes():
    args = arguments(2_000)
    found = [measured(strategy, args) for strategy in (Full(), Full(checkpoint=True), Full(levels=2))]
    assert found[1] == measured(Full(levels=1), args)
    assert found == sorted(found, reverse=True)
    assert found[0] > 5 * found[1] > 5 * found[2]


@pytest.mark.parametrize("budget", ["130kB", "300kB", "1MB", "1GiB"])
def test_a_budget_is_kept(budget):
    args, limit = arguments(2_000), {"130kB": 130e3, "300kB": 300e3, "1MB": 1e6, "1GiB": 2**30}[budget]
    assert measured(Full(budget=budget), args) <= limit
    if budget == "1GiB":
        assert measured(Full(budget=budget), args) == measured(Full(), args)


def test_a_budget_that_is_too_small_says_what_is_needed():
    with pytest.raises(seqjax.Error, match=r"a budget of 0\.001 MB is too small for 2000 steps: with \d levels, about"):
        measured(Full(budget="1 kB"), arguments(2_000))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget": "200"}, r"budget = '200' must be a size such as 200MB"),
        ({"budget": "200 mb"}, "units: B, kB"),
        ({"levels": 2, "checkpoint": True}, "choose one of checkpoint, levels and budget"),
        ({"levels": 0}, "levels"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(seqjax.Error, match=message):
        Full(**fields)


def test_the_warm_up_of_a_problem_is_kept():
    problem = Problem.of(MLP(lags=4, hidden=3), seqjax.Spec(seqjax.Tokens(4)))
    assert Checkpointed(problem).warmup == problem.warmup == 3
