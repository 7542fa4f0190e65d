import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqjax import Error
from seqjax_optimizers import SGD, Adam, AdamW

PARAMS = {"a": np.array([1.0, -2.0, 3.0]), "b": {"c": np.array([[0.5]])}}
GRADS = [{"a": g * np.array([3.0, 4.0, 0.0]), "b": {"c": g * np.array([[12.0]])}} for g in (1.0, -0.01, 0.3, 0.0)]
"""Gradients of norms 13, 0.13, 3.9 and 0."""


def clip(grads, clip_norm):
    norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads)))
    scale = 1.0 if clip_norm is None or norm <= clip_norm else clip_norm / norm
    return jax.tree.map(lambda g: g * scale, grads)


def sgd_by_hand(learning_rate, clip_norm):
    params = PARAMS
    for grads in GRADS:
        params = jax.tree.map(lambda p, g: p - learning_rate * g, params, clip(grads, clip_norm))
    return params


def adam_by_hand(learning_rate, clip_norm, b1, b2, eps, weight_decay=0.0):
    params, m, v = PARAMS, *[jax.tree.map(np.zeros_like, PARAMS)] * 2
    for n, grads in enumerate(GRADS, 1):
        rate = learning_rate(n - 1) if callable(learning_rate) else learning_rate
        g = clip(grads, clip_norm)
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, v, g)
        step = jax.tree.map(lambda m, v, n=n: m / (1 - b1**n) / (np.sqrt(v / (1 - b2**n)) + eps), m, v)
        params = jax.tree.map(lambda p, s, rate=rate: p - rate * (s + weight_decay * p), params, step)
    return params


def apply(optimizer):
    """The parameters and the state after an update with each gradient."""
    tx = optimizer.build(len(GRADS))
    with jax.numpy_dtype_promotion("standard"):
        params = jax.tree.map(jnp.asarray, PARAMS)
        state = tx.init(params)
        for grads in GRADS:
            updates, state = tx.update(jax.tree.map(jnp.asarray, grads), state, params)
            params = optax.apply_updates(params, updates)
    return params, state


def assert_close(found, want, rtol=1e-12):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol), found, want)


@pytest.mark.parametrize("clip_norm", [None, 1.0, 5.0, 100.0])
def test_sgd_is_the_step_down_the_clipped_gradient(x64, clip_norm):
    params, state = apply(SGD(learning_rate=0.5, clip_norm=clip_norm))
    assert_close(params, sgd_by_hand(0.5, clip_norm))
    assert optax.tree.get(state, "learning_rate") == 0.5


ADAM = {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-3}


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.0}, {"weight_decay": 0.3}], ids=str)
def test_adam_is_the_step_by_the_corrected_moments_and_adamw_decays_every_weight_apart_from_them(x64, clip_norm, decay):
    params, state = apply((AdamW if decay else Adam)(clip_norm=clip_norm, **ADAM, **decay))
    assert_close(params, adam_by_hand(clip_norm=clip_norm, **ADAM, **decay))
    assert optax.tree.get(state, "learning_rate") == 0.01


def rate_by_hand(n, total, peak, schedule, warmup):
    rising = warmup * total
    if n < rising:
        return peak * (n + 1) / (rising + 1)
    if schedule == "constant":
        return peak
    return peak * 0.5 * (1 + np.cos(np.pi * (n - rising) / (total - rising)))


@pytest.mark.parametrize(
    ("schedule", "warmup"), [("constant", 0.0), ("constant", 0.25), ("cosine", 0.0), ("cosine", 0.25), ("cosine", 0.33)]
)
def test_the_steps_are_those_of_the_schedule(x64, schedule, warmup):
    """A step of SGD along a gradient of 1 is the learning rate, which stays constant after the end."""
    tx, params = SGD(learning_rate=0.5, schedule=schedule, warmup=warmup).build(12), jnp.array(0.0)
    state, steps, rates = tx.init(params), [], []
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(14):
            updates, state = tx.update(jnp.array(1.0), state, params)
            steps.append(-float(updates))
            rates.append(float(state.hyperparams["learning_rate"]))
    expected = [rate_by_hand(min(n, 12), 12, 0.5, schedule, warmup) for n in range(14)]
    np.testing.assert_allclose(steps, expected, rtol=1e-12, atol=1e-15)
    assert rates == steps
    assert all(rate > 0 for rate in rates[:12])
    if warmup == 0.25:
        assert rates[3] == max(rates) == 0.5, "the whole rate right after the rise"


NUMBERS = {"learning_rate": [0.1, 0.3], "warmup": [0.1, 0.5], "clip_norm": [1.0, 5.0], "weight_decay": [0.3, 0.0],
           "b1": [0.8, 0.9]}  # fmt: skip


def test_every_number_may_be_traced(x64):
    """Trainings side by side, over several updates."""
    run = lambda numbers: apply(AdamW(schedule="cosine", b2=0.95, eps=1e-3, **numbers))[0]
    together = jax.jit(jax.vmap(run))(jax.tree.map(np.asarray, NUMBERS, is_leaf=lambda a: isinstance(a, list)))
    for i in range(2):
        rate, warmup, clip_norm, weight_decay, b1 = (values[i] for values in NUMBERS.values())
        schedule = lambda n, rate=rate, warmup=warmup: rate_by_hand(n, len(GRADS), rate, "cosine", warmup)
        want = adam_by_hand(schedule, clip_norm, b1, 0.95, 1e-3, weight_decay)
        assert_close(jax.tree.map(lambda a, i=i: a[i], together), want)


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (SGD, {"learning_rate": 0.0, "clip_norm": -1.0}),
        (SGD, {"learning_rate": float("nan"), "clip_norm": 0.0}),
        (Adam, {"learning_rate": -1.0, "b1": 1.0, "b2": -0.1, "eps": 0.0, "clip_norm": 0.0}),
        (AdamW, {"weight_decay": -1.0, "schedule": "linear", "warmup": 1.0}),
    ],
)
def test_every_field_out_of_range_is_reported_at_once(cls, fields):
    with pytest.raises(Error) as caught:
        cls(**fields)
    assert len(caught.value.problems) == len(fields)
