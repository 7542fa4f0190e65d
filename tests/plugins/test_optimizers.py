import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqjax import Error
from seqjax.optimizers import SGD, Adam, AdamW
from seqjax.testing.quick_jit import quick_jit

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

    def update(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    with jax.numpy_dtype_promotion("standard"):
        params = jax.tree.map(jnp.asarray, PARAMS)
        grads = jax.tree.map(lambda *a: np.stack(a), *GRADS)
        return jax.lax.scan(update, (params, tx.init(params)), grads)[0]


def assert_close(found, want, rtol=1e-12):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol), found, want)


CLIP_NORMS = [None, 1.0, 5.0, 100.0]
ADAM = {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-3}
DECAYS = [{}, {"weight_decay": 0.0}, {"weight_decay": 0.3}]


def adam(decay, clip_norm):
    return (AdamW if decay else Adam)(clip_norm=clip_norm, **ADAM, **decay)


@functools.cache
def applied():
    """What `apply` returns for each optimizer."""
    optimizers = [SGD(learning_rate=0.5, clip_norm=clip_norm) for clip_norm in CLIP_NORMS]
    optimizers += [adam(*each) for each in itertools.product(DECAYS, CLIP_NORMS[:2])]
    return dict(zip(optimizers, quick_jit(lambda: [*map(apply, optimizers)])(), strict=True))


@pytest.mark.parametrize("clip_norm", CLIP_NORMS)
def test_sgd_is_the_step_down_the_clipped_gradient(x64, clip_norm):
    params, state = applied()[SGD(learning_rate=0.5, clip_norm=clip_norm)]
    assert_close(params, sgd_by_hand(0.5, clip_norm))
    assert float(optax.tree.get(state, "learning_rate")) == 0.5


@pytest.mark.parametrize("clip_norm", CLIP_NORMS[:2])
@pytest.mark.parametrize("decay", DECAYS, ids=str)
def test_adam_is_the_step_by_the_corrected_moments_and_adamw_decays_every_weight_apart_from_them(x64, clip_norm, decay):
    params, state = applied()[adam(decay, clip_norm)]
    assert_close(params, adam_by_hand(clip_norm=clip_norm, **ADAM, **decay))
    assert float(optax.tree.get(state, "learning_rate")) == 0.01


def rate_by_hand(n, total, peak, schedule, warmup):
    rising = warmup * total
    if n < rising:
        return peak * (n + 1) / (rising + 1)
    if schedule == "constant":
        return peak
    return peak * 0.5 * (1 + np.cos(np.pi * (n - rising) / (total - rising)))


SCHEDULES = [("constant", 0.0), ("constant", 0.25), ("cosine", 0.0), ("cosine", 0.25), ("cosine", 0.33)]


@functools.cache
def scheduled():
    """The steps of SGD along a gradient of 1, and the learning rates, for each schedule."""

    def run(schedule, warmup):
        tx, params = SGD(learning_rate=0.5, schedule=schedule, warmup=warmup).build(12), jnp.array(0.0)

        def update(state, _):
            updates, state = tx.update(jnp.array(1.0), state, params)
            return state, (-updates, state.hyperparams["learning_rate"])

        return jax.lax.scan(update, tx.init(params), length=14)[1]

    with jax.numpy_dtype_promotion("standard"):
        return dict(zip(SCHEDULES, quick_jit(lambda: [run(*each) for each in SCHEDULES])(), strict=True))


@pytest.mark.parametrize(("schedule", "warmup"), SCHEDULES)
def test_the_steps_are_those_of_the_schedule(x64, schedule, warmup):
    """A step is the learning rate, which stays constant after the end."""
    steps, rates = map(np.asarray, scheduled()[schedule, warmup])
    expected = [rate_by_hand(min(n, 12), 12, 0.5, schedule, warmup) for n in range(14)]
    np.testing.assert_allclose(steps, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(rates, steps)
    assert (rates[:12] > 0).all()
    if warmup == 0.25:
        assert rates[3] == rates.max() == 0.5, "the whole rate right after the rise"


NUMBERS = {"learning_rate": [0.1, 0.3], "warmup": [0.1, 0.5], "clip_norm": [1.0, 5.0], "weight_decay": [0.3, 0.0],
           "b1": [0.8, 0.9]}  # fmt: skip


def test_every_number_may_be_traced(x64):
    """Trainings side by side, over several updates."""
    run = lambda numbers: apply(AdamW(schedule="cosine", b2=0.95, eps=1e-3, **numbers))[0]
    together = quick_jit(jax.vmap(run))(jax.tree.map(np.asarray, NUMBERS, is_leaf=lambda a: isinstance(a, list)))
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
