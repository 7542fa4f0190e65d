import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Model, Problem, Spec, Stream, Tokens, Values
from seqjax.evaluate import WINDOW, evaluate, perplexity
from seqjax_models import RNN


class Lags(NamedTuple):
    """The last two inputs, -1 where there is none yet."""

    ids: jax.Array


@dataclass(frozen=True)
class Sum(Model):
    """Logits that are known: `w` times the sum of the last three inputs at each token, so its state matters."""

    context: ClassVar[int] = 2

    def init(self, key, spec):
        return {"w": jnp.linspace(-1, 1, spec.inputs.size)}

    def init_state(self, params, spec, key=None):
        return Lags(jnp.full(2, -1, jnp.int32))

    def step(self, params, state, x):
        last = jnp.concatenate([state.ids, x[None]])
        return Lags(last[1:]), params["w"] * last.sum().astype(params["w"].dtype)


def loss_by_hand(problem, params, stream):
    """Mean loss over every target: one step after the other, each document from its own fresh state."""
    step = jax.jit(problem.step)
    losses = []
    for first, last in zip(stream.bounds, stream.bounds[1:], strict=False):
        state = problem.init_state(params)
        for t in range(first, last):
            state, loss = step(params, state, (stream.inputs[t], stream.targets[t]))
            if t - first >= problem.context and (stream.mask is None or stream.mask[t]):
                losses.append(float(loss))
    return math.fsum(losses) / len(losses), len(losses)


def tokens(size, lengths, masked=False):
    rng, n = np.random.default_rng(0), sum(lengths)
    ids = rng.integers(0, size, n + 1).astype(np.int32)
    return Stream(ids[:-1], ids[1:], np.cumsum([0, *lengths]), rng.random(n) < 0.7 if masked else None)


@pytest.mark.parametrize("model", [RNN(hidden=3), Sum()], ids=["rnn", "context"])
@pytest.mark.parametrize(
    ("lengths", "masked"),
    [((2 * WINDOW + 88,), False), ((WINDOW,), True), ((300, 1, 0, WINDOW, 3), False), ((0, 40, WINDOW + 1), True)],
)
def test_evaluation_is_what_a_loop_over_all_steps_gives(x64, model, lengths, masked):
    problem = Problem.of(model, Spec(Tokens(5)))
    params = jax.tree.map(lambda a: 50 * a, model.init(jax.random.key(0), problem.spec))
    stream = tokens(5, lengths, masked)
    loss, count = loss_by_hand(problem, params, stream)
    row = evaluate(problem, params, stream)
    assert row["tokens"] == count
    assert row["loss"] == pytest.approx(loss, rel=1e-12)
    assert row["perplexity"] == pytest.approx(math.exp(loss), rel=1e-12)


def test_the_error_of_values_has_no_perplexity(x64):
    spec = Spec(Values(2))
    problem = Problem.of(RNN(hidden=3), spec)
    params = jax.tree.map(lambda a: 50 * a, problem.model.init(jax.random.key(0), spec))
    values = np.random.default_rng(0).normal(size=(41, 2))
    stream = Stream(values[:-1], values[1:], np.array([0, 15, 40]))
    loss, count = loss_by_hand(problem, params, stream)
    assert evaluate(problem, params, stream) == {"loss": pytest.approx(loss, rel=1e-12), "tokens": count}


def zeros(size):
    problem = Problem.of(RNN(hidden=2), Spec(Tokens(size)))
    return problem, jax.tree.map(jnp.zeros_like, problem.model.init(jax.random.key(0), problem.spec))


@pytest.mark.parametrize("size", [1, 2, 28, 1000])
def test_uniform_logits_have_the_perplexity_of_the_vocabulary(size):
    row = evaluate(*zeros(size), tokens(size, (300,)))
    assert row["perplexity"] == pytest.approx(size, rel=1e-5)
    assert row["tokens"] == 300


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
def test_an_empty_stream_has_no_loss(lengths):
    row = evaluate(*zeros(3), tokens(3, lengths))
    assert row["tokens"] == 0
    assert math.isnan(row["loss"])
    assert math.isnan(row["perplexity"])


def test_a_stream_within_the_context_has_no_loss():
    problem = Problem.of(Sum(), Spec(Tokens(3)))
    row = evaluate(problem, problem.model.init(jax.random.key(0), problem.spec), tokens(3, (2, 1, 2)))
    assert row["tokens"] == 0
    assert math.isnan(row["loss"])


def test_perplexity_is_1_if_certain_and_infinite_if_a_target_was_impossible():
    assert perplexity(0.0) == 1
    assert perplexity(math.log(28)) == pytest.approx(28)
    assert perplexity(1e5) == perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))
    problem, params = zeros(3)
    params["b_q"] = jnp.array([0.0, -jnp.inf, 0.0])
    assert evaluate(problem, params, tokens(3, (50,)))["perplexity"] == math.inf
    params["b_q"] = jnp.array([0.0, 0.0, 1e4])
    certain = Stream(np.zeros(9, np.int32), np.full(9, 2, np.int32), np.array([0, 9]))
    assert evaluate(problem, params, certain)["perplexity"] == 1
