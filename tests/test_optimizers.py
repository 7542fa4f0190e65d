import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqjax import Error
from seqjax_optimizers import SGD, Adam

PARAMS = {"a": np.array([1.0, -2.0, 3.0]), "b": {"c": np.array([[0.5]])}}
GRADS = [{"a": g * np.array([3.0, 4.0, 0.0]), "b": {"c": g * np.array([[12.0]])}} for g in (1.0, -0.01, 0.3, 0.0)]
"""Of norms 13, 0.13, 3.9 and 0."""


def clip(grads, clip_norm):
    norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads)))
    scale = 1.0 if clip_norm is None or norm <= clip_norm else clip_norm / norm
    return jax.tree.map(lambda g: g * scale, grads)


def sgd_by_hand(learning_rate, clip_norm):
    params = PARAMS
    for grads in GRADS:
        params = jax.tree.map(lambda p, g: p - learning_rate * g, params, clip(grads, clip_norm))
    return params


def adam_by_hand(learning_rate, clip_norm, b1, b2, eps):
    params, m, v = PARAMS, *[jax.tree.map(np.zeros_like, PARAMS)] * 2
    for n, grads in enumerate(GRADS, 1):
        g = clip(grads, clip_norm)
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, v, g)
        params = jax.tree.map(
            lambda p, m, v, n=n: p - learning_rate * m / (1 - b1**n) / (np.sqrt(v / (1 - b2**n)) + eps), params, m, v
        )
    return params


def apply(optimizer):
    tx = optimizer.build(len(GRADS))
    with jax.numpy_dtype_promotion("standard"):
        params = jax.tree.map(jnp.asarray, PARAMS)
        state = tx.init(params)
        for grads in GRADS:
            updates, state = tx.update(jax.tree.map(jnp.asarray, grads), state, params)
            params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("clip_norm", [None, 1.0, 5.0, 100.0])
def test_sgd_is_the_step_down_the_clipped_gradient(x64, clip_norm):
    params, _ = apply(SGD(learning_rate=0.5, clip_norm=clip_norm))
    jax.tree.map(np.testing.assert_allclose, params, sgd_by_hand(0.5, clip_norm))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_adam_is_the_step_by_the_corrected_moments(x64, clip_norm):
    fields = {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-3}
    params, _ = apply(Adam(clip_norm=clip_norm, **fields))
    jax.tree.map(
        lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-12), params, adam_by_hand(clip_norm=clip_norm, **fields)
    )


@pytest.mark.parametrize("cls", [SGD, Adam])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_the_learning_rate_can_be_read_from_the_state(cls, clip_norm):
    _, state = apply(cls(learning_rate=0.25, clip_norm=clip_norm))
    assert optax.tree.get(state, "learning_rate") == 0.25


@pytest.mark.parametrize("cls", [SGD, Adam])
@pytest.mark.parametrize("traced", ["field", "state"])
def test_learning_rates_can_be_trained_side_by_side(cls, traced):
    """A field takes a traced value; and the rate in the state is the one that counts."""
    params, grads = jax.tree.map(jnp.asarray, (PARAMS, GRADS[0]))

    def first_update(rate):
        tx = cls(learning_rate=rate if traced == "field" else 1.0, clip_norm=1.0).build(1)
        with jax.numpy_dtype_promotion("standard"):
            state = tx.init(params)
            state = optax.tree.set(state, learning_rate=rate) if traced == "state" else state
            return tx.update(grads, state, params)[0]

    unit, together = first_update(1.0), jax.vmap(first_update)(jnp.array([0.1, 0.7]))
    for i, rate in enumerate((0.1, 0.7)):
        jax.tree.map(lambda a, b, i=i, rate=rate: np.testing.assert_allclose(a[i], rate * b, rtol=1e-5), together, unit)


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (SGD, {"learning_rate": 0.0, "clip_norm": -1.0}),
        (SGD, {"learning_rate": float("nan"), "clip_norm": 0.0}),
        (Adam, {"learning_rate": -1.0, "b1": 1.0, "b2": -0.1, "eps": 0.0, "clip_norm": 0.0}),
    ],
)
def test_every_field_out_of_range_is_reported_at_once(cls, fields):
    with pytest.raises(Error) as caught:
        cls(**fields)
    assert len(caught.value.problems) == len(fields)
