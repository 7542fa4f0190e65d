"""Checkpoints change the bytes of a reverse pass, and nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Problem, estimate
from seqjax.gradients import Discounted, Full
from seqjax.gradients.contract.checkpointed import checkpointed
from seqjax.gradients.steps.segmented import segment_size
from seqjax.models import MLP, RNN
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

B = 2


def step(params, h, x):
    h = jnp.tanh(params["w"] * h[::-1] + x)
    return h, jnp.mean(h**2)


def arguments(num_steps, hidden=2):
    rng = np.random.default_rng(0)
    shapes = (hidden,), (B, hidden), (num_steps, B)
    w, h, xs = (rng.normal(size=shape) for shape in shapes)
    return {"w": w}, h, xs


@functools.cache
def discounted(num_steps, levels):
    """The estimate with edge weights, which compose with checkpoints."""
    problem = checkpointed(Problem(step), levels)
    return quick_jit(estimate(problem, Discounted(discount=0.7), batched=True))(*arguments(num_steps))


@pytest.mark.parametrize(
    ("levels", "num_steps"),
    [(3, 7), *(pytest.param(n, T, marks=pytest.mark.slow) for n in (1, 2, 3, 5) for T in (1, 2, 7, 16, 30))],
)
def test_the_gradient_is_the_same(levels, num_steps, x64):
    assert_close(discounted(num_steps, levels), discounted(num_steps, 0), f"{levels} levels")


@pytest.mark.slow
def test_a_fused_model_composes(x64):
    model, spec = RNN(hidden=2), seqjax.Spec(seqjax.Tokens(4))
    problem, ids = Problem.of(model, spec), np.random.default_rng(0).integers(0, 4, (8, B)).astype(np.int32)
    params = model.init(jax.random.key(1), spec)
    args = params, problem.init_rows(params, B), (ids[:-1], ids[1:])
    found, want = (quick_jit(estimate(problem, each, batched=True))(*args) for each in (Full(levels=2), Full()))
    assert_close(found, want, "rnn")


@pytest.mark.parametrize(
    ("num_steps", "levels", "size"), [(16, 1, 4), (17, 1, 4), (27, 2, 9), (1000, 2, 100), (1, 3, 1)]
)
def test_segments_have_equal_numbers_of_steps_at_all_levels(num_steps, levels, size):
    assert segment_size(num_steps, levels) == size


LONG = arguments(2_000, hidden=64)


def lowered(strategy):
    return jax.jit(lambda *args: estimate(step, strategy, batched=True)(*args)[:2]).lower(*LONG)


@functools.cache
def measured(strategy):
    return lowered(strategy).compile().memory_analysis().temp_size_in_bytes


def test_more_levels_take_fewer_bytes():
    found = [measured(Full()), measured(Full(levels=1)), measured(Full(levels=2))]
    assert found[0] > 5 * found[1] > 5 * found[2]
    assert lowered(Full(checkpoint=True)).as_text() == lowered(Full(levels=1)).as_text()


@pytest.mark.parametrize(
    ("budget", "most", "within"),
    [("1GiB", 2**30, Full()), ("180kB", 1.8e5, Full(levels=1)), ("125kB", 1.25e5, Full(levels=2))],
)
def test_a_budget_is_kept_with_the_fewest_levels(budget, most, within):
    assert measured(within) <= most
    assert lowered(Full(budget=budget)).as_text() == lowered(within).as_text()


def test_a_budget_that_is_too_small_says_what_is_needed():
    with pytest.raises(seqjax.Error, match=r"a budget of 0\.001 MB is too small for 2000 steps: with \d levels, about"):
        lowered(Full(budget="1 kB"))


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
    assert checkpointed(problem).warmup == problem.warmup == 3
