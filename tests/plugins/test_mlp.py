"""The autoregressive network, from its equations, and its unroll against the scan of its step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error, Spec, Tokens, Values
from seqjax.gradients.steps.unrolling import unroll
from seqjax.models import MLP
from seqjax.models.check import check_model
from seqjax.testing.quick_jit import quick_jit

HIDDEN, B = 5, 2
TOKENS, VALUES, COVARIATES = Spec(Tokens(6)), Spec(Values(2)), Spec(Values(2), Values(1))


def make(model, spec, num_steps):
    """Random weights, a state of earlier inputs, and inputs xs [T, B, ...]."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
    params = {name: rng.normal(size=a.shape).astype(a.dtype) for name, a in shapes.items()}

    def inputs(*shape):
        if isinstance(spec.inputs, Tokens):
            return rng.integers(0, spec.inputs.size, shape).astype(np.int32)
        return rng.normal(size=(*shape, spec.inputs.dim)).astype(params["b_h"].dtype)

    state = jax.eval_shape(lambda params: model.init_state(params, spec), params)
    return params, state._replace(window=inputs(B, model.warmup + 1)), inputs(num_steps, B)


def by_hand(model, params, window, xs):
    """Every output, computed from the inputs that it depends on, and the window after the last step."""
    outputs = np.zeros((*xs.shape[:2], len(params["b_q"])))
    for b in range(B):
        history, now = [*window[b], *xs[:, b]], window.shape[1]
        vectors = [np.eye(6)[x] if np.ndim(x) == 0 else x for x in history]
        for t in range(len(xs)):
            features = [
                sum(vectors[now + t - i * model.stride - j] for j in range(model.pool)) / model.pool
                for i in reversed(range(model.lags))
            ]
            h = np.maximum(np.concatenate(features) @ params["W_xh"] + params["b_h"], 0)
            outputs[t, b] = h @ params["W_hq"] + params["b_q"]
    after = np.concatenate([window, np.moveaxis(xs, 0, 1)], 1)[:, -window.shape[1] :]
    return after, outputs


@pytest.mark.parametrize(
    ("spec", "lags", "stride", "pool", "num_steps"),
    [(TOKENS, 3, 2, 1, 9), (COVARIATES, 2, 3, 5, 9), (COVARIATES, 5, 1, 1, 2)],
)
def test_an_output_depends_on_means_of_inputs_a_stride_apart_oldest_first(x64, spec, lags, stride, pool, num_steps):
    """All at once, and by the scan of the step."""
    model = MLP(lags=lags, hidden=HIDDEN, stride=stride, pool=pool)
    assert model.warmup == (lags - 1) * stride + pool - 1
    params, state, xs = make(model, spec, num_steps)

    @quick_jit
    def both(params, state, xs):
        return model.unroll(params, state, xs), unroll(functools.partial(model.step, params), state, xs)

    last, expected = by_hand(model, params, state.window, xs)
    for new, outputs in both(params, state, xs):
        np.testing.assert_allclose(outputs, expected, atol=1e-12)
        np.testing.assert_array_equal(new.window, last)
        assert new.window.dtype == state.window.dtype


@pytest.mark.parametrize(
    ("spec", "stride", "pool"), [(COVARIATES, 3, 5), pytest.param(TOKENS, 1, 1, marks=pytest.mark.slow)]
)
def test_chunks_have_the_gradient_of_the_scan_of_the_step(x64, spec, stride, pool):
    """By the parameters, and by the scale of inputs that are values."""
    model = MLP(lags=2, hidden=HIDDEN, stride=stride, pool=pool)
    params, state, xs = make(model, spec, 7)

    @quick_jit
    def both(params, scale):
        def by_chunks(params, inputs):
            middle, first = model.unroll(params, state, inputs[:4])
            return jnp.concatenate([first, model.unroll(params, middle, inputs[4:])[1]])

        def by_steps(params, inputs):
            return unroll(functools.partial(model.step, params), state, inputs)[1]

        def loss(run, params, scale):
            return jnp.sum(jnp.sin(run(params, xs if spec is TOKENS else xs * scale)))

        return [jax.value_and_grad(loss, (1, 2))(run, params, scale) for run in (by_chunks, by_steps)]

    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), *both(params, 1.5))


def test_the_initial_window_is_zeros_or_the_first_id():
    for spec, zeros in ((TOKENS, np.zeros(3, np.int32)), (VALUES, np.zeros((3, 2), np.float32))):
        init_state = quick_jit(MLP(lags=3).init_state, static_argnums=1)
        window = init_state({"b_h": zeros.astype(np.float32)}, spec).window
        np.testing.assert_array_equal(window, zeros, strict=True)


def test_initial_weights_are_glorots(x64):
    init = quick_jit(MLP(lags=20, hidden=300).init, static_argnums=1)
    params = jax.tree.map(np.asarray, init(jax.random.key(0), Spec(Values(2), Values(50))))
    assert {name: a.shape for name, a in params.items()} == {
        "W_xh": (40, 300), "b_h": (300,), "W_hq": (300, 50), "b_q": (50,)
    }  # fmt: skip
    for name in ("W_xh", "W_hq"):
        w, bound = params[name], (6 / sum(params[name].shape)) ** 0.5
        assert 0.99 * bound < abs(w).max() <= bound
        assert abs(w.mean()) < 4 * w.std() / w.size**0.5
        assert abs(w.std() / (bound / 3**0.5) - 1) < 4 * 0.45 / w.size**0.5  # uniform: sd of s / σ is √.2 / √n
    assert not params["b_h"].any()
    assert not params["b_q"].any()


def test_ids_are_not_pooled():
    model = MLP(stride=2, pool=2)
    for call in (lambda: check_model(model, TOKENS), lambda: model.init_state({}, TOKENS)):
        with pytest.raises(Error, match=r"pool = 2: the mean of ids has no meaning.*--model.pool 1"):
            call()


def test_ranges():
    with pytest.raises(Error, match=r"(?s)lags = 0: must be int >= 1\n.*hidden = 0: .*stride = 0: .*pool = 0: must be"):
        MLP(lags=0, hidden=0, stride=0, pool=0)
