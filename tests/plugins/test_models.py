"""The RNN of the chapter; tests/models tests what all cells share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Problem, Spec, Tokens, Values
from seqjax.models.check import check_model
from seqjax.testing.quick_jit import quick_jit
from seqjax_models import RNN

TOKENS, VALUES, COVARIATES = Spec(Tokens(7)), Spec(Values(3)), Spec(Values(2), Values(1))
SPECS = pytest.mark.parametrize(
    "spec", [TOKENS, COVARIATES, pytest.param(VALUES, marks=pytest.mark.slow)], ids=["tokens", "covariates", "values"]
)


def make(spec, hidden=5, T=6, B=2):
    """A model with random weights and state, and inputs xs [T, B, ...]."""
    model, rng = RNN(hidden=hidden), np.random.default_rng(0)
    random = lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype)
    params = jax.tree.map(random, jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0)))
    state = jax.eval_shape(jax.vmap(lambda _: model.init_state(params, spec)), jnp.arange(B))
    if isinstance(spec.inputs, Tokens):
        return model, params, jax.tree.map(random, state), rng.integers(0, spec.inputs.size, (T, B)).astype(np.int32)
    return model, params, jax.tree.map(random, state), random(jnp.zeros((T, B, spec.inputs.dim)))


def hidden_of(state):
    """The h of the only layer."""
    return state.layers[0].h


def by_hand(params, h, xs):
    """The equations of the chapter, row by row and step by step."""
    p = jax.tree.map(np.asarray, params | params["layer_0"])
    outputs = np.zeros((*xs.shape[:2], len(p["b_q"])))
    h = np.array(h)
    for t, x_B in enumerate(np.asarray(xs)):
        for b, x in enumerate(x_B):
            x = np.eye(len(p["W_xh"]))[x] if x.ndim == 0 else x
            h[b] = np.tanh(x @ p["W_xh"] + h[b] @ p["W_hh"] + p["b_h"])
            outputs[t, b] = h[b] @ p["W_hq"] + p["b_q"]
    return h, outputs


@SPECS
def test_rnn_is_the_chapters_equations(x64, spec):
    """Chunks with a carried state equal one unroll; later inputs, other rows and edge weights change no output."""
    model, params, state, xs = make(spec)
    unroll = quick_jit(functools.partial(model.unroll, params))
    new, outputs = unroll(state, xs, np.full((6, 2), 0.3))
    h, expected = by_hand(params, hidden_of(state), xs)
    np.testing.assert_allclose(hidden_of(new), h, atol=1e-13)
    np.testing.assert_allclose(outputs, expected, atol=1e-13)
    middle, first = unroll(state, xs[:3], np.ones((3, 2)))
    last, second = unroll(middle, xs[3:], np.ones((3, 2)))
    np.testing.assert_allclose(np.concatenate([first, second]), expected, atol=1e-13)
    np.testing.assert_allclose(hidden_of(last), h, atol=1e-13)


@SPECS
def test_step_is_the_chapters_equations(x64, spec):
    model, params, state, xs = make(spec, T=1)
    new, output = quick_jit(model.step)(params, jax.tree.map(lambda a: a[1], state), xs[0, 1])
    h, expected = by_hand(params, hidden_of(state), xs)
    np.testing.assert_allclose(output, expected[0, 1], atol=1e-14)
    np.testing.assert_allclose(hidden_of(new), h[1], atol=1e-14)


@pytest.mark.parametrize(("hidden", "size"), [(512, 291_356), pytest.param(256, 80_412 - 256, marks=pytest.mark.slow)])
def test_parameter_counts_and_initial_weights_of_the_chapter(hidden, size):
    """The chapter's 80,412 counts the second bias vector of torch.nn.RNN, which adds nothing to the first."""
    init = jax.jit(lambda key: RNN(hidden=hidden).init(key, Spec(Tokens(28))))
    params, other = (jax.tree.map(np.asarray, init(jax.random.key(seed))) for seed in (0, 1))
    layer = params["layer_0"]
    assert sum(a.size for a in jax.tree.leaves(params)) == size
    assert jax.tree.map(np.shape, params) == {
        "layer_0": {"W_xh": (28, hidden), "W_hh": (hidden, hidden), "b_h": (hidden,)},
        "W_hq": (hidden, 28),
        "b_q": (28,),
    }
    assert not layer["b_h"].any()
    assert not params["b_q"].any()
    weights = [w.ravel() for w in (layer["W_xh"], layer["W_hh"], params["W_hq"])]
    for w in weights:  # four standard errors of the mean and of the standard deviation
        assert abs(w.mean()) < 4 * 0.01 / w.size**0.5
        assert abs(w.std() - 0.01) < 4 * 0.01 / (2 * w.size) ** 0.5
    assert abs(np.corrcoef(weights[0], weights[2])[0, 1]) < 0.1, "the weights are drawn from different keys"
    assert (other["layer_0"]["W_hh"] != layer["W_hh"]).mean() > 0.99


def test_the_initial_state_is_zero():
    assert hidden_of(RNN(hidden=4).init_state({"W_hq": np.zeros((4, 7), np.float32)}, TOKENS)).tolist() == [0, 0, 0, 0]


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


@pytest.mark.slow
def test_a_problem_computes_in_another_precision_and_keeps_the_parameters(x64):
    tolerance = 0.05
    model, params, state, xs = make(TOKENS)
    exact, coarse = Problem.of(model, TOKENS), Problem.of(model, TOKENS, precision="bfloat16")

    def loss(problem, params):
        new, losses = problem.unroll(params, state, (xs, xs))
        return losses.mean(), new

    (value, new), grads = jax.value_and_grad(functools.partial(loss, coarse), has_aux=True)(params)
    (expected, _), exact_grads = jax.value_and_grad(functools.partial(loss, exact), has_aux=True)(params)
    assert {a.dtype for a in jax.tree.leaves((value, grads, new))} == {np.dtype(np.float64)}
    assert 0 < abs(value - expected) < tolerance
    np.testing.assert_allclose(grads["layer_0"]["W_hh"], exact_grads["layer_0"]["W_hh"], atol=tolerance)


@SPECS
def test_the_model_passes_the_check_before_training(spec):
    check_model(RNN(hidden=3), spec)
