"""Fifteen wrong estimators are found at the default cost, and six right ones pass with any key."""

import functools
import re

import jax
import jax.flatten_util
import jax.numpy as jnp
import pytest

from seqjax import Error
from seqjax.gradients import Truncated
from seqjax.testing import check_estimator


def total(step, params, state, xs, weights=None):
    """The loss of a window whose edges have weights."""

    def body(state, inputs):
        x, weight = inputs
        if weight is not None:
            cut = jax.lax.stop_gradient(state)
            state = jax.tree.map(lambda a, b: b + weight * (a - b), state, cut)
        return step(params, state, x)

    return jax.lax.scan(body, state, (xs, weights))[1].sum()


def length(xs):
    return len(jax.tree.leaves(xs)[0])


def autodiff(step, params, state, xs, key, *, argnums=0):
    return jax.value_and_grad(functools.partial(total, step), argnums)(params, state, xs)


def with_weights(make):
    """Reverse mode with edge weights, which `make` draws: (key, T) -> float[T]."""

    def estimate(step, params, state, xs, key):
        return jax.value_and_grad(functools.partial(total, step))(params, state, xs, make(key, length(xs)))

    return estimate


def coins(key, n, pi=0.7, *, weight=None):
    return jnp.where(jax.random.bernoulli(key, pi, (n,)), 1 / pi if weight is None else weight, 0)


def shared_by_two(key, n):
    weights = coins(key, n)
    return weights.at[n - 1].set(weights[1])


def aging(key, n, *, off_by=0):
    """Cuts whose hazard falls with age; a surviving edge weighs 1 / (1 - hazard), of its own age or of another one."""

    def edge(age, key):
        hazard = lambda age: 0.6 / (1 + age.astype(float))
        cut = jax.random.uniform(key) < hazard(age)
        return jnp.where(cut, 0, age + 1), jnp.where(cut, 0, 1 / (1 - hazard(age + off_by)))

    return jax.lax.scan(edge, jnp.asarray(0), jax.random.split(key, n))[1]


def segments(n, steps=3):
    return jnp.where(jnp.arange(n) % steps == 0, 0.0, 1.0).at[0].set(1)


def changed(change, argnums=0):
    """Reverse mode, whose gradient is changed: (gradient, state, xs) -> gradient."""

    def estimate(step, params, state, xs, key):
        loss, grads = autodiff(step, params, state, xs, key, argnums=argnums)
        return loss, change(grads, state, xs)

    return estimate


def at_zero(grads, state, xs):
    """1.5 times the gradient where the incoming state is zero."""
    return jax.tree.map(lambda a: a * jnp.where(is_zero(state), 1.5, 1), grads)


def is_zero(state):
    return jnp.stack([jnp.all(a == 0) for a in jax.tree.leaves(state)]).all()


def without_rest(step, params, state, xs, key, *, argnums=1):
    """No gradient passes a state that is zero."""

    def zero_cut(params, state):
        def body(state, x):
            zero, cut = is_zero(state), jax.lax.stop_gradient(state)
            return step(params, jax.tree.map(lambda a, b: jnp.where(zero, b, a), state, cut), x)

        return jax.lax.scan(body, state, xs)[1].sum()

    return jax.value_and_grad(zero_cut, argnums)(params, state)


def forwards_without_rest(step, params, state, xs, key):
    """The derivative of the state by the parameters is carried, and taken for zero where the state is zero."""

    def one(tangent):
        def body(carry, x):
            state, d_state = carry
            d_state = jax.tree.map(lambda a: jnp.where(is_zero(state), 0, a), d_state)
            (new, loss), (d_new, d_loss) = jax.jvp(lambda p, s: step(p, s, x), (params, state), (tangent, d_state))
            return (new, d_new), (loss, d_loss)

        zeros = jax.tree.map(jnp.zeros_like, state)
        losses, d_losses = jax.lax.scan(body, (state, zeros), xs)[1]
        return losses.sum(), d_losses.sum()

    flat, join = jax.flatten_util.ravel_pytree(params)
    losses, grads = jax.vmap(lambda row: one(join(row)))(jnp.eye(flat.size, dtype=flat.dtype))
    return losses[0], join(grads)


def without_last_step(step, params, state, xs, key):
    """The parameters of the last step are constants."""

    def loss(params):
        body = lambda state, x: step(params, state, x)
        state_after, losses = jax.lax.scan(body, state, jax.tree.map(lambda a: a[:-1], xs))
        last = step(jax.lax.stop_gradient(params), state_after, jax.tree.map(lambda a: a[-1], xs))[1]
        return losses.sum() + last

    return jax.value_and_grad(loss)(params)


def forward(step, params, state, xs, key, *, shared_sign=False):
    """The forward gradient; with one sign for all parameters it is not unbiased."""
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    signs = [jax.random.rademacher(k, () if shared_sign else a.shape, float) for k, a in zip(keys, leaves, strict=True)]
    v = jax.tree.unflatten(treedef, [jnp.broadcast_to(s, a.shape) for s, a in zip(signs, leaves, strict=True)])
    loss, slope = jax.jvp(lambda params: total(step, params, state, xs), (params,), (v,))
    return loss, jax.tree.map(lambda a: slope * a, v)


def online(step, params, state, xs, key, memory, *, carry=True):
    """The gradient of the history, with the derivative of the state carried from window to window."""

    def window(params, state):
        end, losses = jax.lax.scan(lambda state, x: step(params, state, x), state, xs)
        return losses.sum(), end

    if memory is None or not carry:
        zeros = jax.jacobian(lambda params, state: state, 0)(params, state)
        memory = jax.tree.map(jnp.zeros_like, zeros)

    def through(params):
        """The window from a state that has the carried derivative by the parameters."""
        shift = jax.tree.leaves(jax.tree.map(lambda a: a - jax.lax.stop_gradient(a), params))
        leaves, treedef = jax.tree.flatten(state)
        moved = []
        for leaf, by_params in zip(leaves, treedef.flatten_up_to(memory), strict=True):
            parts = [jnp.tensordot(m, d, d.ndim) for m, d in zip(jax.tree.leaves(by_params), shift, strict=True)]
            moved.append(leaf + sum(parts))
        return window(params, jax.tree.unflatten(treedef, moved))

    loss, grads = jax.value_and_grad(lambda params: through(params)[0])(params)
    return loss, grads, jax.jacobian(lambda params: through(params)[1])(params)


def scaled_last_input(grads, state, xs):
    return jax.tree.map(lambda a: a.at[-1].multiply(1.01), grads)


def flipped(grads, state, xs):
    leaves, treedef = jax.tree.flatten(grads)
    return jax.tree.unflatten(treedef, [*leaves[:-1], -leaves[-1]])


WRONG = {
    "1.5 times the gradient where the incoming state is zero": (changed(at_zero), {"claim": "exact"}),
    "the gradient by the state stops where the state is zero": (without_rest, {"claim": "exact", "argnums": 1}),
    "the gradient by the parameters stops where the state is zero": (
        functools.partial(without_rest, argnums=0),
        {"claim": "exact"},
    ),
    "J = 0 where the state is zero": (forwards_without_rest, {"claim": "exact"}),
    "1.1 times the gradient by the state": (
        changed(lambda grads, *_: (grads[0], jax.tree.map(lambda a: 1.1 * a, grads[1])), (0, 1)),
        {"claim": "exact", "argnums": (0, 1)},
    ),
    "1.01 times the gradient by the last input": (changed(scaled_last_input, 2), {"claim": "exact", "argnums": 2}),
    "the sign of one parameter": (changed(flipped), {"claim": "exact"}),
    "the last step left out": (without_last_step, {"claim": "exact"}),
    "segments as if they were exact": (with_weights(lambda key, n: segments(n)), {"claim": "exact"}),
    "no memory of the history": (functools.partial(online, carry=False), {"claim": "exact", "of": "history"}),
    "one draw for all edges": (
        with_weights(lambda key, n: jnp.broadcast_to(coins(key, 1), (n,))),
        {"claim": "unbiased"},
    ),
    "one draw for two edges": (with_weights(shared_by_two), {"claim": "unbiased"}),
    "1/π left out": (with_weights(functools.partial(coins, weight=1.0)), {"claim": "unbiased"}),
    "the weight of the next age": (with_weights(functools.partial(aging, off_by=1)), {"claim": "unbiased"}),
    "one sign for each array": (functools.partial(forward, shared_sign=True), {"claim": "unbiased"}),
}
RIGHT = {
    "reverse mode": (autodiff, {"claim": "exact"}),
    "reverse mode of all arguments": (
        functools.partial(autodiff, argnums=(0, 1, 2)),
        {"claim": "exact", "argnums": (0, 1, 2)},
    ),
    "segments": (with_weights(lambda key, n: segments(n)), {"claim": "biased", "like": Truncated(steps=3)}),
    "memory of the history": (online, {"claim": "exact", "of": "history"}),
    "a draw for each edge": (with_weights(coins), {"claim": "unbiased"}),
    "the weight of its age": (with_weights(aging), {"claim": "unbiased"}),
}


QUICK = {"1.1 times the gradient by the state", "one draw for all edges"}
"""The others are in the slow suite."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in WRONG]
)
def test_a_wrong_estimator_is_found(name):
    estimator, claim = WRONG[name]
    with pytest.raises(Error) as found:
        check_estimator(estimator, **claim)
    if score := re.search(r"z-score ([\d.]+)", str(found.value)):
        assert float(score[1]) >= 10


def with_another_key(estimator, n):
    """The estimator with other random numbers."""

    def estimate(step, params, state, xs, key, *memory):
        return estimator(step, params, state, xs, jax.random.fold_in(key, n), *memory)

    return estimate


CALLS = [(name, n) for name, (_, claim) in RIGHT.items() for n in range(20 if claim["claim"] == "unbiased" else 1)]


@pytest.mark.parametrize(
    ("name", "n"),
    [pytest.param(*call, marks=pytest.mark.slow if call[1] or call[0] not in QUICK else ()) for call in CALLS],
)
def test_a_right_estimator_passes(name, n):
    estimator, claim = RIGHT[name]
    assert set(check_estimator(with_another_key(estimator, n), **claim)["passed"]) == {"yes"}
