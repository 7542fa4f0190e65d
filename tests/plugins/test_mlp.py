import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.specs import for_specs

import seqjax
from seqjax import Error, Problem, Spec, Tokens, Values, train, value_and_grad
from seqjax.data import Stream
from seqjax.gradients.unrolling import unroll
from seqjax.models.check import check_model
from seqjax_gradients import Full, Randomized, Truncated
from seqjax_models import MLP
from seqjax_samplers import Sequential, Windows

LAGS, HIDDEN, T, B = 3, 5, 7, 2
TOKENS = Spec(Tokens(6))
VALUES = Spec(Values(2))
COVARIATES = Spec(Values(2), Values(1))
SPECS = for_specs(TOKENS, VALUES, COVARIATES)


def by_steps(model):
    """The scan of the model's step: (params, state, xs) -> (state, outputs)."""
    return lambda params, state, xs: unroll(functools.partial(model.step, params), state, xs)


def make(spec, T=T, lags=LAGS):
    """A model, random weights, the state of earlier inputs, and inputs xs [T, B, ...]."""
    model, rng = MLP(lags=lags, hidden=HIDDEN), np.random.default_rng(0)
    params = model.init(jax.random.key(0), spec)
    params = {name: jnp.asarray(rng.normal(size=a.shape), a.dtype) for name, a in params.items()}

    def inputs(*shape):
        if isinstance(spec.inputs, Tokens):
            return jnp.asarray(rng.integers(0, spec.inputs.size, shape), jnp.int32)
        return jnp.asarray(rng.normal(size=(*shape, spec.inputs.dim)), params["b_h"].dtype)

    state = model.init_state(params, spec)._replace(window=inputs(B, lags))
    return model, params, state, inputs(T, B)


def by_hand(params, window, xs, lags=LAGS):
    """Every output, computed from the inputs that it depends on."""
    p = {name: np.asarray(a) for name, a in params.items()}
    size = len(p["W_xh"]) // lags
    outputs = np.zeros((*xs.shape[:2], len(p["b_q"])))
    for b in range(xs.shape[1]):
        history = [*np.asarray(window)[b], *np.asarray(xs)[:, b]]
        vectors = [np.eye(size)[x] if np.ndim(x) == 0 else x for x in history]
        for t in range(len(xs)):
            features = np.concatenate(vectors[t + 1 : t + 1 + lags])
            h = np.maximum(features @ p["W_xh"] + p["b_h"], 0)
            outputs[t, b] = h @ p["W_hq"] + p["b_q"]
    return np.asarray(history[-lags:]), outputs


@SPECS
@pytest.mark.parametrize(
    ("lags", "T"),
    [
        pytest.param(3, 7, marks=pytest.mark.slow, id="3 lags"),
        pytest.param(1, 4, marks=pytest.mark.slow, id="1 lag"),
        pytest.param(5, 2, id="window shorter than lags"),
    ],
)
def test_an_output_depends_on_the_last_inputs_oldest_first(x64, spec, lags, T):
    model, params, state, xs = make(spec, T, lags)
    new, outputs = model.unroll(params, state, xs)
    last, expected = by_hand(params, state.window, xs, lags)
    np.testing.assert_allclose(outputs, expected, atol=1e-12)
    np.testing.assert_array_equal(new.window[-1], last)
    assert new.window.dtype == state.window.dtype


@SPECS
def test_all_at_once_is_the_scan_of_the_step_in_values_and_gradients(x64, spec):
    model, params, state, xs = make(spec)

    def loss(over_time, params):
        middle, first = over_time(params, state, xs[:4])
        last, second = over_time(params, middle, xs[4:])
        outputs = jnp.concatenate([first, second])
        return jnp.sum(jnp.sin(outputs)), (last, outputs)

    scanned = by_steps(model)
    found, expected = (
        jax.jit(jax.value_and_grad(functools.partial(loss, f), has_aux=True))(params) for f in (model.unroll, scanned)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)


@pytest.mark.parametrize(
    "spec", [pytest.param(TOKENS, marks=pytest.mark.slow), COVARIATES], ids=["tokens", "covariates"]
)
def test_strategies_agree_since_no_gradient_flows_through_time(x64, spec):
    model, params, state, xs = make(spec)
    targets = xs[..., : spec.targets.width] if isinstance(spec.targets, Values) else xs
    problem = Problem.of(model, spec)
    strategies = (Full(), Truncated(steps=1), Randomized(keep_prob=0.5))
    found = [value_and_grad(problem, s)(params, state, (xs, targets), key=jax.random.key(0)) for s in strategies]
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, (other.loss, other.grads), (found[0].loss, found[0].grads))
    steps = functools.partial(unroll, functools.partial(problem.step, params), state, (xs, targets))
    np.testing.assert_allclose(steps(jnp.zeros(T))[1].mean(), found[0].loss, atol=1e-14)


def test_the_initial_window_is_zeros_or_the_first_id():
    for spec, zeros in ((TOKENS, np.zeros(3, np.int32)), (VALUES, np.zeros((3, 2), np.float32))):
        model = MLP(lags=3)
        window = model.init_state(model.init(jax.random.key(0), spec), spec).window
        np.testing.assert_array_equal(window, zeros, strict=True)


def test_initial_weights_are_glorots(x64):
    params = MLP(lags=20, hidden=300).init(jax.random.key(0), Spec(Values(2), Values(50)))
    assert {name: a.shape for name, a in params.items()} == {
        "W_xh": (40, 300), "b_h": (300,), "W_hq": (300, 50), "b_q": (50,)
    }  # fmt: skip
    for name in ("W_xh", "W_hq"):
        w, bound = np.asarray(params[name]), (6 / sum(params[name].shape)) ** 0.5
        assert 0.99 * bound < abs(w).max() <= bound
        assert abs(w.mean()) < 4 * w.std() / w.size**0.5
        assert abs(w.std() / (bound / 3**0.5) - 1) < 4 * 0.45 / w.size**0.5  # uniform: sd of s / σ is √.2 / √n
    assert not params["b_h"].any()
    assert not params["b_q"].any()
    assert abs(np.corrcoef(params["W_xh"].ravel()[:12000], params["W_hq"].ravel()[:12000])[0, 1]) < 0.05


@pytest.mark.slow
def test_outputs_from_a_window_that_is_not_full_are_not_scored():
    assert [MLP(lags=n).warmup for n in (1, 4)] == [0, 3]
    stream = Stream(np.arange(12.0)[:, None], np.arange(1.0, 13)[:, None], np.array([0, 12]))
    problem = Problem.of(MLP(lags=3), Spec(Values(1)))
    options = {"sampler": Sequential(batch_size=1, num_steps=3), "gradient": Full(), "epochs": 1}
    _, row = next(train(problem, stream, optimizer=seqjax.create("optimizer", "sgd"), **options))
    assert row["tokens"] % 3 == 1, "a window of three steps gives one, each later one three"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.bfloat16])
@SPECS
def test_an_mlp_computes_in_the_dtype_of_its_parameters(x64, spec, dtype):
    model, params, state, xs = make(spec)
    low = jax.tree.map(lambda a: a.astype(dtype), params)
    reset = jax.tree.map(lambda a: jnp.stack([a] * B), model.init_state(low, spec))
    new, outputs = model.unroll(low, reset, xs if spec is TOKENS else xs.astype(dtype))
    assert outputs.dtype == dtype
    assert new.window.dtype == (jnp.int32 if spec is TOKENS else dtype)

    targets = xs[..., : spec.targets.width] if isinstance(spec.targets, Values) else xs
    coarse, exact = (
        jax.grad(lambda p, problem=problem: problem.unroll(p, state, (xs, targets))[1].mean())(params)
        for problem in (Problem.of(model, spec, precision="bfloat16"), Problem.of(model, spec))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.1, atol=0.2), coarse, exact)


@SPECS
def test_the_model_passes_the_check_before_training(spec):
    check_model(MLP(), spec)


def test_ranges():
    with pytest.raises(Error, match=r"lags = 0: must be int >= 1\n.*hidden = 0: must be int >= 1"):
        MLP(lags=0, hidden=0)


HISTORIES = pytest.mark.parametrize(
    ("lags", "stride", "pool"),
    [
        pytest.param(3, 2, 1, marks=pytest.mark.slow, id="strided"),
        pytest.param(3, 2, 2, marks=pytest.mark.slow, id="no gaps"),
        pytest.param(2, 3, 5, id="means overlap"),
        pytest.param(1, 4, 3, marks=pytest.mark.slow, id="one mean"),
        pytest.param(4, 3, 2, id="gaps"),
    ],
)


def reaching(spec, lags, stride, pool):
    """A model with such a history, and the rest of `make`."""
    model = MLP(lags=lags, hidden=HIDDEN, stride=stride, pool=pool)
    _, params, _, xs = make(spec, 9, lags)
    _, _, state, _ = make(spec, 9, model.warmup + 1)
    return model, params, state, xs


@HISTORIES
def test_features_are_means_of_inputs_a_stride_apart(x64, lags, stride, pool):
    model, params, state, xs = reaching(COVARIATES, lags, stride, pool)
    assert model.warmup == (lags - 1) * stride + pool - 1
    new, outputs = model.unroll(params, state, xs)
    p = {name: np.asarray(a) for name, a in params.items()}
    for b in range(B):
        history = np.concatenate([state.window[b], xs[:, b]])
        now = len(state.window[b])
        for t in range(len(xs)):
            features = [
                sum(history[now + t - i * stride - j] for j in range(pool)) / pool for i in reversed(range(lags))
            ]
            h = np.maximum(np.concatenate(features) @ p["W_xh"] + p["b_h"], 0)
            np.testing.assert_allclose(outputs[t, b], h @ p["W_hq"] + p["b_q"], atol=1e-12)
        np.testing.assert_array_equal(new.window[b], history[-now:])


def test_strided_ids(x64):
    """With a stride of 2 the model reads every second id like a model without strides that reads these alone."""
    model, params, state, xs = reaching(TOKENS, 3, 2, 1)
    _, outputs = model.unroll(params, state, xs)
    plain = MLP(lags=3, hidden=HIDDEN)
    for first in (0, 1):
        before = jnp.concatenate([state.window[:, :1], state.window[:, 1 - first :: 2]], axis=1)[:, -3:]
        _, expected = plain.unroll(params, state._replace(window=before), xs[first::2])
        np.testing.assert_allclose(outputs[first::2], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "lags", "stride", "pool"),
    [
        pytest.param(VALUES, 3, 2, 2, marks=pytest.mark.slow, id="no gaps"),
        pytest.param(VALUES, 2, 3, 5, id="means overlap"),
        pytest.param(TOKENS, 3, 2, 1, id="strided ids"),
    ],
)
def test_any_history_is_the_scan_of_the_step_in_values_and_gradients(x64, spec, lags, stride, pool):
    model, params, state, xs = reaching(spec, lags, stride, pool)

    def loss(over_time, params, scale):
        inputs = xs if spec is TOKENS else xs * scale
        middle, first = over_time(params, state, inputs[:4])
        last, second = over_time(params, middle, inputs[4:])
        outputs = jnp.concatenate([first, second])
        return jnp.sum(jnp.sin(outputs)), (last, outputs)

    scanned = by_steps(model)
    both = [jax.jit(jax.value_and_grad(functools.partial(loss, f), argnums=(0, 1), has_aux=True))
            for f in (model.unroll, scanned)]  # fmt: skip
    found, expected = (f(params, jnp.asarray(1.5)) for f in both)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)


def test_means_of_a_constant_are_the_constant_and_reach_back_at_a_constant_size(x64):
    """A longer history changes neither the parameters nor the outputs for a constant series."""
    near, far = MLP(lags=3), MLP(lags=3, stride=8, pool=8)
    spec = Spec(Values(1))
    params = near.init(jax.random.key(0), spec)
    jax.tree.map(np.testing.assert_array_equal, far.init(jax.random.key(0), spec), params)
    constant = jnp.full((30, 1, 1), 0.7)
    outputs = [
        model.unroll(params, jax.tree.map(lambda a: a[None], model.init_state(params, spec)), constant)[1][-1]
        for model in (near, far)
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-14)


def test_outputs_with_too_little_history_are_not_scored():
    stream = Stream(np.arange(40.0)[:, None], np.arange(1.0, 41)[:, None], np.array([0, 40]))
    problem = Problem.of(MLP(lags=2, stride=4, pool=3), Spec(Values(1)))
    options = {"sampler": Windows(batch_size=1, num_steps=9), "gradient": Full(), "epochs": 1}
    _, row = next(train(problem, stream, optimizer=seqjax.create("optimizer", "sgd", learning_rate=1e-6), **options))
    assert row["tokens"] == 32 * (9 - 6), "32 windows, of each of which 6 outputs have too little history"


def test_ids_are_not_pooled():
    model = MLP(stride=2, pool=2)
    params = MLP().init(jax.random.key(0), TOKENS)
    for call in (lambda: check_model(model, TOKENS), lambda: model.init_state(params, TOKENS)):
        with pytest.raises(Error, match=r"pool = 2: the mean of ids has no meaning.*--model.pool 1"):
            call()
    check_model(model, VALUES)
    with pytest.raises(Error, match=r"stride = 0: must be int >= 1\n.*pool = 0: must be int >= 1"):
        MLP(stride=0, pool=0)
