"""The autoregressive network, from its equations, and its unroll against the scan of its step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Error, Problem, Spec, Tokens, Values, train, value_and_grad
from seqjax.data import Stream
from seqjax.gradients.unrolling import unroll
from seqjax.models.check import check_model
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import Full, Truncated
from seqjax_models import MLP
from seqjax_samplers import Sequential, Windows

HIDDEN, B = 5, 2
TOKENS, VALUES, COVARIATES = Spec(Tokens(6)), Spec(Values(2)), Spec(Values(2), Values(1))


def make(model, spec, num_steps):
    """Random weights, a state of earlier inputs, and inputs xs [T, B, ...]."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
    params = {name: jnp.asarray(rng.normal(size=a.shape), a.dtype) for name, a in shapes.items()}

    def inputs(*shape):
        if isinstance(spec.inputs, Tokens):
            return jnp.asarray(rng.integers(0, spec.inputs.size, shape), jnp.int32)
        return jnp.asarray(rng.normal(size=(*shape, spec.inputs.dim)), params["b_h"].dtype)

    state = model.init_state(params, spec)._replace(window=inputs(B, model.warmup + 1))
    return params, state, inputs(num_steps, B)


def by_hand(model, params, window, xs):
    """Every output, computed from the inputs that it depends on, and the window after the last step."""
    p, window, xs = jax.tree.map(np.asarray, (params, window, xs))
    outputs = np.zeros((*xs.shape[:2], len(p["b_q"])))
    for b in range(B):
        history, now = [*window[b], *xs[:, b]], window.shape[1]
        vectors = [np.eye(6)[x] if np.ndim(x) == 0 else x for x in history]
        for t in range(len(xs)):
            features = [
                sum(vectors[now + t - i * model.stride - j] for j in range(model.pool)) / model.pool
                for i in reversed(range(model.lags))
            ]
            h = np.maximum(np.concatenate(features) @ p["W_xh"] + p["b_h"], 0)
            outputs[t, b] = h @ p["W_hq"] + p["b_q"]
    after = np.concatenate([window, np.moveaxis(xs, 0, 1)], 1)[:, -window.shape[1] :]
    return after, outputs


QUICK = [(TOKENS, 3, 2, 1, 9), (COVARIATES, 2, 3, 5, 9), (COVARIATES, 5, 1, 1, 2)]
SLOW = [
    *((spec, *sizes) for spec in (TOKENS, VALUES, COVARIATES) for sizes in ((3, 1, 1, 7), (1, 1, 1, 4))),
    (TOKENS, 5, 1, 1, 2),
    *((COVARIATES, *sizes, 9) for sizes in ((3, 2, 1), (3, 2, 2), (1, 4, 3), (4, 3, 2))),
    (VALUES, 3, 2, 2, 9),
]


@pytest.mark.parametrize(
    ("spec", "lags", "stride", "pool", "num_steps"),
    [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)],
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
    ("spec", "stride", "pool"),
    [(COVARIATES, 3, 5), *(pytest.param(spec, 1, 1, marks=pytest.mark.slow) for spec in (TOKENS, VALUES, COVARIATES))],
)
def test_chunks_have_the_gradient_of_the_scan_of_the_step(x64, spec, stride, pool):
    """By the parameters, and by the scale of inputs that are values."""
    model = MLP(lags=2, hidden=HIDDEN, stride=stride, pool=pool)
    params, state, xs = make(model, spec, 7)

    @quick_jit
    def both(params, scale):
        def loss(over_time, params, scale):
            inputs = xs if spec is TOKENS else xs * scale
            middle, first = over_time(params, state, inputs[:4])
            _, second = over_time(params, middle, inputs[4:])
            return jnp.sum(jnp.sin(jnp.concatenate([first, second])))

        by_steps = lambda params, state, xs: unroll(functools.partial(model.step, params), state, xs)
        return [jax.value_and_grad(loss, (1, 2))(run, params, scale) for run in (model.unroll, by_steps)]

    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), *both(params, 1.5))


def test_no_gradient_flows_through_time(x64):
    """The edges between steps may be cut."""
    model, targets = MLP(lags=3, hidden=HIDDEN), np.ones((4, B, 1))
    params, state, xs = make(model, COVARIATES, 4)
    problem = Problem.of(model, COVARIATES)

    @quick_jit
    def both(params):
        return [value_and_grad(problem, s)(params, state, (xs, targets))[:2] for s in (Full(), Truncated(steps=1))]

    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), *both(params))


def test_the_initial_window_is_zeros_or_the_first_id():
    for spec, zeros in ((TOKENS, np.zeros(3, np.int32)), (VALUES, np.zeros((3, 2), np.float32))):
        window = MLP(lags=3).init_state({"b_h": zeros.astype(np.float32)}, spec).window
        np.testing.assert_array_equal(window, zeros, strict=True)


def test_initial_weights_are_glorots(x64):
    params = MLP(lags=20, hidden=300).init(jax.random.key(0), Spec(Values(2), Values(50)))
    assert {name: a.shape for name, a in params.items()} == {
        "W_xh": (40, 300), "b_h": (300,), "W_hq": (300, 50), "b_q": (50,)
    }  # fmt: skip
    params = {name: np.asarray(a) for name, a in params.items()}
    for name in ("W_xh", "W_hq"):
        w, bound = params[name], (6 / sum(params[name].shape)) ** 0.5
        assert 0.99 * bound < abs(w).max() <= bound
        assert abs(w.mean()) < 4 * w.std() / w.size**0.5
        assert abs(w.std() / (bound / 3**0.5) - 1) < 4 * 0.45 / w.size**0.5  # uniform: sd of s / σ is √.2 / √n
    assert not params["b_h"].any()
    assert not params["b_q"].any()
    assert abs(np.corrcoef(params["W_xh"].ravel()[:12000], params["W_hq"].ravel()[:12000])[0, 1]) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "sampler", "tokens"),
    [
        (MLP(lags=3), Sequential(batch_size=1, num_steps=3), lambda n: n % 3 == 1),  # the first window gives one
        (MLP(lags=2, stride=4, pool=3), Windows(batch_size=1, num_steps=9), lambda n: n == 32 * (9 - 6)),
    ],
    ids=["one row", "windows"],
)
def test_outputs_with_too_little_history_are_not_scored(model, sampler, tokens):
    stream = Stream(np.arange(40.0)[:, None], np.arange(1.0, 41)[:, None], np.array([0, 40]))
    optimizer = seqjax.create("optimizer", "sgd", learning_rate=1e-6)
    options = {"sampler": sampler, "gradient": Full(), "optimizer": optimizer, "epochs": 1}
    _, row = next(train(Problem.of(model, Spec(Values(1))), stream, **options))
    assert tokens(row["tokens"])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("spec", [TOKENS, VALUES, COVARIATES], ids=["tokens", "values", "covariates"])
def test_an_mlp_computes_in_the_dtype_of_its_parameters(x64, spec, dtype):
    model = MLP(lags=3, hidden=HIDDEN)
    params, state, xs = make(model, spec, 7)
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


def test_ids_are_not_pooled():
    model = MLP(stride=2, pool=2)
    for call in (lambda: check_model(model, TOKENS), lambda: model.init_state({}, TOKENS)):
        with pytest.raises(Error, match=r"pool = 2: the mean of ids has no meaning.*--model.pool 1"):
            call()


@pytest.mark.parametrize("spec", [TOKENS, COVARIATES], ids=["tokens", "covariates"])
def test_the_model_passes_the_check_before_training(spec):
    check_model(MLP(), spec)


def test_ranges():
    with pytest.raises(Error, match=r"(?s)lags = 0: must be int >= 1\n.*hidden = 0: .*stride = 0: .*pool = 0: must be"):
        MLP(lags=0, hidden=0, stride=0, pool=0)
