"""The RNN of the chapter; tests/models tests what all cells share."""

import functools

import jax
import numpy as np
import pytest

from seqjax import Problem, Spec, Tokens, Values
from seqjax.models import RNN
from seqjax.testing.quick_jit import quick_jit

TOKENS, VALUES, COVARIATES = Spec(Tokens(7)), Spec(Values(3)), Spec(Values(2), Values(1))
SPECS = pytest.mark.parametrize(
    "spec", [TOKENS, COVARIATES, pytest.param(VALUES, marks=pytest.mark.slow)], ids=["tokens", "covariates", "values"]
)


def make(spec, hidden=5, T=6, B=2):
    """A model with random weights and state, and inputs xs [T, B, ...]."""
    model, rng = RNN(hidden=hidden), np.random.default_rng(0)
    random = lambda a: rng.normal(size=a.shape).astype(a.dtype)
    params = jax.tree.map(random, jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0)))
    state = jax.eval_shape(jax.vmap(lambda _: model.init_state(params, spec)), np.arange(B))
    if isinstance(spec.inputs, Tokens):
        return model, params, jax.tree.map(random, state), rng.integers(0, spec.inputs.size, (T, B)).astype(np.int32)
    return model, params, jax.tree.map(random, state), rng.normal(size=(T, B, spec.inputs.dim))


def hidden_of(state):
    """The h of the only layer."""
    return state.layers[0].h


def by_hand(params, h, xs):
    """The equations of the chapter, row by row and step by step."""
    p = params | params["layer_0"]
    outputs = np.zeros((*xs.shape[:2], len(p["b_q"])))
    h = np.array(h)
    for t, x_B in enumerate(xs):
        for b, x in enumerate(x_B):
            x = np.eye(len(p["W_xh"]))[x] if x.ndim == 0 else x
            h[b] = np.tanh(x @ p["W_xh"] + h[b] @ p["W_hh"] + p["b_h"])
            outputs[t, b] = h[b] @ p["W_hq"] + p["b_q"]
    return h, outputs


@SPECS
def test_rnn_is_the_chapters_equations(x64, spec):
    """Chunks with a carried state equal one unroll; later inputs, other rows and edge weights change no output."""
    model, params, state, xs = make(spec)
    unroll = functools.partial(quick_jit(model.unroll), params)
    new, outputs = unroll(state, xs, np.full((6, 2), 0.3))
    h, expected = by_hand(params, hidden_of(state), xs)
    np.testing.assert_allclose(hidden_of(new), h, atol=1e-13)
    np.testing.assert_allclose(outputs, expected, atol=1e-13)
    middle, first = unroll(state, xs[:3], np.ones((3, 2)))
    last, second = unroll(middle, xs[3:], np.ones((3, 2)))
    np.testing.assert_allclose(np.concatenate([first, second]), expected, atol=1e-13)
    np.testing.assert_allclose(hidden_of(last), h, atol=1e-13)


@pytest.mark.parametrize(
    "integer", [np.uint8, *(pytest.param(t, marks=pytest.mark.slow) for t in (np.uint16, np.int64))]
)
def test_a_problem_gives_the_loss_of_each_step(x64, integer):
    """Cross-entropy in nats for tokens, in any integer type; the squared error averaged over dimensions for values."""
    model, params, state, xs = make(TOKENS)
    targets = np.roll(xs, -1, axis=0)
    logits = by_hand(params, hidden_of(state), xs)[1]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    run = quick_jit(Problem.of(model, TOKENS).unroll)
    losses = run(params, state, (xs.astype(integer), targets.astype(integer)))[1]
    np.testing.assert_allclose(losses, -np.log(np.take_along_axis(p, targets[..., None], -1))[..., 0])

    model, params, state, xs = make(VALUES)
    targets = xs[::-1]
    losses = quick_jit(Problem.of(model, VALUES).unroll)(params, state, (xs, targets))[1]
    np.testing.assert_allclose(losses, ((by_hand(params, hidden_of(state), xs)[1] - targets) ** 2).mean(-1))
