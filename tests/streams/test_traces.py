"""Eligibility traces and ObGD in agents that learn a value, against loops in numpy over the same steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

T, B, N = 1000, 3, 4
"""The steps of the stream, its rows, and the features of a state."""
DISCOUNT, LAMBDA, KAPPA = 0.95, 0.8, 2.0
RATES = {"eligibility": 0.02, "obgd": 0.03}
DECAY = DISCOUNT * LAMBDA


def linear(w, x):
    return w @ x


def network(params, x):
    return params["out"] @ jnp.tanh(params["in"] @ x + params["bias"])


def slope_of_network(params, x):
    """Value and gradient of `network` in numpy."""
    h = np.tanh(params["in"] @ x + params["bias"])
    of_bias = params["out"] * (1 - h**2)
    return params["out"] @ h, {"in": np.outer(of_bias, x), "bias": of_bias, "out": h}


def values():
    """(value, (params, x) -> value and gradient in numpy, parameters) by name."""
    rng = np.random.default_rng(0)
    params = {"in": rng.normal(size=(5, N)), "bias": rng.normal(size=5), "out": rng.normal(size=5)}
    slope_of_linear = lambda w, x: (w @ x, x)
    return {"linear": (linear, slope_of_linear, rng.normal(size=N)), "network": (network, slope_of_network, params)}


def stream():
    """Features [T + 1, B, N], rewards [T, B], and whether a sequence starts with a step, bool[T + 1, B]."""
    rng = np.random.default_rng(1)
    starts = rng.random((T + 1, B)) < 0.03
    starts[0] = True, False, True
    starts[500], starts[501] = (True, False, False), True  # in row 0 a sequence has one step
    return rng.normal(size=(T + 1, B, N)), 2 * rng.normal(size=(T, B)), starts


def tree(f, *trees):
    return jax.tree.map(f, *trees)


def td_error(value, discount, reward, next_starts, x, next_x):
    """δ of a step: no value follows the last step of a sequence."""
    return reward + discount * (1 - next_starts) * value(next_x) - value(x)


@functools.partial(quick_jit, static_argnums=0)
def learned(agents, params, xs, rewards, starts):
    """The parameters after each step, by agent: (value, optimizer, rows or None) by name."""

    def follow(agent, params):
        value, optimizer, rows = agent
        by_row = (lambda f, *axes: f) if rows is None else jax.vmap

        def body(carry, inputs):
            params, state = carry
            x, next_x, reward, start, next_start = (a if rows else a[0] for a in inputs)
            errors = lambda *step: td_error(functools.partial(value, params), DISCOUNT, *step)
            delta = by_row(errors)(reward, next_start.astype(reward.dtype), x, next_x)
            grads = by_row(jax.grad(value), (None, 0))(params, x)
            updates, state = optimizer.update(grads, state, params, delta=delta, reset=start)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(body, (params, optimizer.init(params)), steps)[1]

    steps = xs[:-1], xs[1:], rewards, starts[:-1], starts[1:]
    return {name: follow(agent, params[name.split(",")[0]]) for name, agent in agents}


def td_lambda(slope, params, rows):
    """TD(λ) with accumulating traces (Sutton & Barto 2018, §12.2), with the mean over rows: w ← w + α δ z."""
    xs, rewards, starts = stream()
    traces, found = [tree(np.zeros_like, params) for _ in range(rows)], []
    for t in range(T):
        moves = []
        for b in range(rows):
            v, g = slope(params, xs[t, b])
            after = 0.0 if starts[t + 1, b] else slope(params, xs[t + 1, b])[0]
            if starts[t, b]:
                traces[b] = tree(np.zeros_like, params)
            traces[b] = tree(lambda z, g: DISCOUNT * LAMBDA * z + g, traces[b], g)
            delta = rewards[t, b] + DISCOUNT * after - v
            moves.append(tree(lambda z, d=delta: d * z, traces[b]))
        params = tree(lambda w, *m: w + RATES["eligibility"] * sum(m) / rows, params, *moves)
        found.append(params)
    return tree(lambda *a: np.stack(a), *found)


def obgd(slope, params):
    """Algorithm ObGD of Elsayed, Vasan & Mahmood 2024, whose trace is zeroed after the last step of a sequence.

    Also the share of steps that are bounded, and of those with |δ| < 1.
    """
    xs, rewards, starts = stream()
    alpha, z, found, bounded, small = RATES["obgd"], tree(np.zeros_like, params), [], 0, 0
    for t in range(T):
        v, g = slope(params, xs[t, 0])
        after = 0.0 if starts[t + 1, 0] else slope(params, xs[t + 1, 0])[0]
        delta = rewards[t, 0] + DISCOUNT * after - v
        z = tree(lambda z, g: DISCOUNT * LAMBDA * z + g, z, g)
        norm = sum(np.abs(a).sum() for a in jax.tree.leaves(z))
        M = alpha * KAPPA * max(abs(delta), 1) * norm
        size = min(alpha, alpha / M)
        params = tree(lambda w, z, move=size * delta: w + move * z, params, z)
        bounded, small = bounded + (M > 1) / T, small + (abs(delta) < 1) / T
        if starts[t + 1, 0]:
            z = tree(np.zeros_like, params)
        found.append(params)
    return tree(lambda *a: np.stack(a), *found), bounded, small


def test_values_are_learned_as_in_a_loop(x64):
    """1,000 steps with resets, in one scan; the parameters after each of them."""
    known = values()
    trace = lambda rows: optax.chain(sj.eligibility(DECAY, rows), optax.scale(RATES["eligibility"]))
    injected = optax.inject_hyperparams(sj.obgd)(learning_rate=RATES["obgd"], decay=DECAY, kappa=KAPPA)
    kinds = {
        "": (trace(None), None), "rows": (trace(B), B),
        "obgd": (sj.obgd(RATES["obgd"], DECAY, KAPPA), None), "injected": (optax.chain(injected), None),
    }  # fmt: skip
    agents = {
        f"{name},{kind}": (value, *options) for name, (value, *_) in known.items() for kind, options in kinds.items()
    }
    xs, rewards, starts = stream()
    params = {name: params for name, (*_, params) in known.items()}
    found = learned(tuple(agents.items()), params, xs, rewards, starts)
    for name, (_, slope, params) in known.items():
        steps, bounded, small = obgd(slope, params)
        assert 0.1 < bounded < 0.9
        assert 0.1 < small < 0.9
        want = {"": td_lambda(slope, params, 1), "rows": td_lambda(slope, params, B), "obgd": steps}
        want |= {"injected": steps}
        for kind, each in want.items():
            assert_close(found[f"{name},{kind}"], each, f"{name}, {kind}", bound=1e-12)


PARAMS = {"w": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)}


def update(optimizer, params=PARAMS, rows=None, **extra):
    """The shapes and dtypes of updates and state after one step. Nothing is compiled."""
    leading = () if rows is None else (rows,)

    def run(params, extra):
        grads = tree(lambda a: jnp.ones((*leading, *a.shape), a.dtype), params)
        return optimizer.update(grads, optimizer.init(params), params, **extra)

    return jax.eval_shape(run, params, extra)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: update(sj.eligibility(0.9)),
            r"multiplies its trace by the TD error of the step: pass it.*delta=delta",
        ),
        (lambda: update(sj.obgd(1.0, 0.9)), r"obgd multiplies its trace by the TD error of the step: pass it"),
        (lambda: update(optax.chain(sj.eligibility(0.9))), "eligibility multiplies its trace by the TD error"),
        (
            lambda: update(sj.eligibility(0.9), delta=np.ones(2)),
            r"eligibility: delta must be float\[\], not float.*\[2\]",
        ),
        (lambda: update(sj.obgd(1.0, 0.9), delta=np.ones(2)), r"obgd: delta must be float\[\], not float.*\[2\]"),
        (lambda: update(sj.eligibility(0.9, rows=2), rows=2, delta=1.0), r"delta must be float\[2\], not float"),
        (
            lambda: update(sj.eligibility(0.9), rows=2, delta=1.0),
            r"eligibility\(decay, rows=B\) takes gradients by row",
        ),
        (lambda: update(sj.obgd(1.0, 0.9), rows=2, delta=1.0), r"obgd: the gradients have leaves .*and the trace has"),
        (
            lambda: update(sj.eligibility(0.9, rows=2), delta=np.ones(2)),
            "the gradients have leaves .*and the trace has",
        ),
        (lambda: update(sj.eligibility(0.9, 3), rows=2, delta=np.ones(3)), "the gradients have leaves"),
        (
            lambda: update(sj.obgd(1.0, 0.9), delta=1.0, reset=np.ones(2, bool)),
            r"reset must be bool\[\], not bool\[2\]",
        ),
        (lambda: update(sj.eligibility(0.9), delta=1.0, reset=1), r"eligibility: reset must be bool\[\], not int"),
        (
            lambda: update(sj.eligibility(0.9, 2), rows=2, delta=np.ones(2), reset=np.ones(3, bool)),
            r"reset must be bool\[\] or bool\[2\], not bool\[3\]",
        ),
        (lambda: sj.eligibility(1.1), "decay = 1.1 must be from 0 to 1"),
        (lambda: sj.eligibility(-0.1), "decay = -0.1 must be from 0 to 1"),
        (lambda: sj.eligibility("x"), "decay = 'x' must be from 0 to 1"),
        (lambda: sj.eligibility(np.float32(2.0)), "decay = np.float32.* must be from 0 to 1"),
        (lambda: sj.obgd(optax.linear_schedule(1.0, 0.1, 10), 0.9), "a schedule enters by optax.inject_hyperparams"),
        (lambda: sj.eligibility(float("nan")), "decay = nan must be from 0 to 1"),
        (lambda: sj.eligibility(0.9, rows=0), "rows"),
        (lambda: sj.eligibility(0.9, rows=2.5), "rows"),
        (
            lambda: sj.obgd(0.0, 2.0, -1.0),
            r"decay = 2.0 must be(.|\n)*learning_rate = 0.0 must be(.|\n)*kappa = -1.0 must",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(sj.Error, match=message):
        call()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_updates_and_traces_have_the_dtypes_of_the_parameters(dtype):
    """δ may be of another precision, and the parameters of several."""
    params = tree(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), PARAMS) | {"c": np.ones(2, np.float32)}
    kinds = (sj.eligibility(0.9), None), (sj.obgd(1.0, 0.9), None), (sj.eligibility(0.9, rows=2), 2)
    for optimizer, rows in kinds:
        leading = rows or ()
        for delta in (np.ones(leading, np.float32), np.ones(leading, dtype), np.ones(leading, int)):
            updates, trace = update(optimizer, params, rows, delta=delta, reset=np.array(True))
            assert tree(lambda a: (a.shape, a.dtype), updates) == tree(lambda a: (a.shape, a.dtype), params)
            assert tree(lambda a: a.dtype, trace) == tree(lambda a: a.dtype, params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_numbers_that_a_schedule_gives_have_the_dtypes_of_the_parameters(dtype):
    params = tree(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), PARAMS)
    schedule = optax.linear_schedule(1.0, 0.1, 10)
    for optimizer in (
        optax.inject_hyperparams(sj.eligibility)(decay=0.9),
        optax.inject_hyperparams(sj.obgd)(learning_rate=schedule, decay=0.9),
    ):
        updates, state = update(optax.chain(optimizer, optax.scale(2.0)), params, delta=np.float32(1))
        assert tree(lambda a: a.dtype, updates) == tree(lambda a: a.dtype, params)
        assert tree(lambda a: a.dtype, state[0].inner_state) == tree(lambda a: a.dtype, params)


def test_the_bound_of_a_step_in_half_precision_is_finite():
    """‖z‖₁ = 90,000 is out of the range of float16, whose largest number is 65,504."""
    params = np.full(300, 300, np.float16)
    optimizer = sj.obgd(1.0, 0.9)
    moved = quick_jit(lambda z: optimizer.update(z, z, delta=1.0, reset=True)[0])(params)
    assert_close(moved, np.full(300, 300 / (2 * 90_000)), "the update", bound=1e-3)
