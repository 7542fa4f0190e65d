import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.specs import for_specs

from seqjax import Problem, Spec, Tokens, Values
from seqjax.models.check import check_model
from seqjax_models import RNN

TOKENS = Spec(Tokens(7))
VALUES = Spec(Values(3))
COVARIATES = Spec(Values(2), Values(1))
SPECS = for_specs(TOKENS, VALUES, COVARIATES)


def make(spec, hidden=5, T=6, B=2, scale=1.0):
    """A model with random weights, and inputs xs [T, B, ...]."""
    model, rng = RNN(hidden=hidden), np.random.default_rng(0)
    params = model.init(jax.random.key(0), spec)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape, scale=scale), a.dtype), params)
    state = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=(B, *a.shape)), a.dtype), model.init_state(params, spec))
    if isinstance(spec.inputs, Tokens):
        return model, params, state, jnp.asarray(rng.integers(0, spec.inputs.size, (T, B)), jnp.int32)
    return model, params, state, jnp.asarray(rng.normal(size=(T, B, spec.inputs.dim)), params["b_q"].dtype)


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
    model, params, state, xs = make(spec)
    new, outputs = model.unroll(params, state, xs)
    h, expected = by_hand(params, hidden_of(state), xs)
    np.testing.assert_allclose(hidden_of(new), h, atol=1e-13)
    np.testing.assert_allclose(outputs, expected, atol=1e-13)


def test_the_sum_of_two_products_is_the_product_of_the_concatenation(x64):
    """Equation (8.4.5), on the chapter's batch of ids X (2, 5) as one-hot vectors (5, 2, 28)."""
    model, params, state, _ = make(Spec(Tokens(28)), hidden=16)
    X = jnp.arange(10, dtype=jnp.int32).reshape(2, 5)
    one_hot = jax.nn.one_hot(X.T, 28, dtype=float)
    assert one_hot.shape == (5, 2, 28)
    layer = params["layer_0"]
    W = np.concatenate([layer["W_xh"], layer["W_hh"]])
    H = np.asarray(hidden_of(state))
    for x in one_hot:
        H = np.tanh(np.concatenate([x, H], axis=1) @ W + layer["b_h"])
    new, outputs = model.unroll(params, state, X.T)
    assert outputs.shape == (5, 2, 28)
    np.testing.assert_allclose(hidden_of(new), H, atol=1e-14)
    np.testing.assert_allclose(hidden_of(model.unroll(params, state, one_hot)[0]), H, atol=1e-14)


@pytest.mark.parametrize(("hidden", "size"), [(512, 291_356), (256, 80_412 - 256)])
def test_parameter_counts_and_initial_weights_of_the_chapter(hidden, size):
    """The chapter's 80,412 counts the second bias vector of torch.nn.RNN, which adds nothing to the first."""
    params = RNN(hidden=hidden).init(jax.random.key(0), Spec(Tokens(28)))
    layer = params["layer_0"]
    assert sum(a.size for a in jax.tree.leaves(params)) == size
    assert jax.tree.map(jnp.shape, params) == {
        "layer_0": {"W_xh": (28, hidden), "W_hh": (hidden, hidden), "b_h": (hidden,)},
        "W_hq": (hidden, 28),
        "b_q": (28,),
    }
    assert not layer["b_h"].any()
    assert not params["b_q"].any()
    weights = [np.asarray(w).ravel() for w in (layer["W_xh"], layer["W_hh"], params["W_hq"])]
    for w in weights:  # four standard errors of the mean and of the standard deviation
        assert abs(w.mean()) < 4 * 0.01 / w.size**0.5
        assert abs(w.std() - 0.01) < 4 * 0.01 / (2 * w.size) ** 0.5
    assert abs(np.corrcoef(weights[0], weights[2])[0, 1]) < 0.1, "the weights are drawn from different keys"
    other = RNN(hidden=hidden).init(jax.random.key(1), Spec(Tokens(28)))
    assert (other["layer_0"]["W_hh"] != layer["W_hh"]).mean() > 0.99


def test_the_initial_state_is_zero():
    model = RNN(hidden=4)
    state = model.init_state(model.init(jax.random.key(0), TOKENS), TOKENS)
    assert hidden_of(state).tolist() == [0, 0, 0, 0]


@SPECS
def test_step_is_unroll(x64, spec):
    model, params, state, xs = make(spec)
    new, outputs = model.unroll(params, state, xs)
    for b in range(2):
        row = jax.tree.map(lambda a, b=b: a[b], state)
        for t, x in enumerate(xs[:, b]):
            row, output = model.step(params, row, x)
            np.testing.assert_allclose(output, outputs[t, b], atol=1e-14)
        np.testing.assert_allclose(hidden_of(row), hidden_of(new)[b], atol=1e-14)


@SPECS
def test_properties_of_an_unroll(x64, spec):
    """Chunks with a carried state equal one unroll; later inputs, other rows and edge weights change no output."""
    model, params, state, xs = make(spec)
    unroll = jax.jit(functools.partial(model.unroll, params))
    new, outputs = unroll(state, xs)
    for cut in (1, 4):
        middle, first = unroll(state, xs[:cut])
        last, second = unroll(middle, xs[cut:])
        np.testing.assert_allclose(np.concatenate([first, second]), outputs, atol=1e-14)
        np.testing.assert_allclose(hidden_of(last), hidden_of(new), atol=1e-14)
    changed = xs.at[3, 0].set((xs[3, 0] + 1) % 7)
    _, others = unroll(state, changed)
    assert (others[:3] == outputs[:3]).all(), "a step saw the future"
    assert (others[:, 1] == outputs[:, 1]).all(), "a row saw another"
    assert (others[3:, 0] != outputs[3:, 0]).all()
    for edge_weights in (jnp.zeros(6), jnp.full((6, 2), 0.3)):
        np.testing.assert_allclose(unroll(state, xs, edge_weights)[1], outputs, atol=1e-14)


def test_a_problem_gives_the_loss_of_each_step(x64):
    """Cross-entropy in nats for tokens, the squared error averaged over dimensions for values."""
    model, params, state, xs = make(TOKENS)
    targets = jnp.roll(xs, -1, axis=0)
    logits = by_hand(params, hidden_of(state), xs)[1]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = Problem.of(model, TOKENS).unroll(params, state, (xs, targets))[1]
    np.testing.assert_allclose(losses, -np.log(np.take_along_axis(p, np.asarray(targets)[..., None], -1))[..., 0])

    model, params, state, xs = make(VALUES)
    targets = xs[::-1]
    losses = Problem.of(model, VALUES).unroll(params, state, (xs, targets))[1]
    np.testing.assert_allclose(losses, ((by_hand(params, hidden_of(state), xs)[1] - targets) ** 2).mean(-1))


@pytest.mark.parametrize("integer", [np.uint8, np.int64, pytest.param(np.uint16, marks=pytest.mark.slow)])
def test_ids_may_come_in_any_integer_type(integer):
    model, params, state, xs = make(TOKENS)
    problem = Problem.of(model, TOKENS)
    narrow = np.asarray(xs).astype(integer)
    expected = problem.unroll(params, state, (xs, xs))[1]
    np.testing.assert_array_equal(
        problem.unroll(params, state, (jnp.asarray(narrow), jnp.asarray(narrow)))[1], expected
    )


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
