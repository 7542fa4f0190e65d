"""Checks of an optimizer: its updates go downhill, and its state can be saved."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.errors import Error, dtype_shape
from seqjax.plugin.author import cause
from seqjax.plugin.base import values_of
from seqjax.testing.compare import Failed, Skipped, assert_close
from seqjax.testing.line import Check, Found
from seqjax.training.optimizer import Optimizer, build, check_update, learning_rate

UPDATES = 200
BOUND = 1e-5
"""The largest relative error between a compiled update and one that is not compiled, in float32."""


def checks(optimizer: Optimizer) -> Sequence[Check]:
    """The checks of an optimizer; the first one is that it builds a transformation."""
    return [each._replace(function=functools.partial(_promoting, each.function)) for each in CHECKS]


def check_build(optimizer: Optimizer) -> Found:
    """Checks that updates have the structure, shapes and dtypes of the parameters."""
    tx, params = build(optimizer, UPDATES), _params()
    check_update(optimizer, tx, params)
    state = tx.init(params)
    _, new = jax.eval_shape(tx.update, _grads(), state, params)
    _same(new, state, "the state after an update", "state before it")
    return Found()


def check_jit(optimizer: Optimizer) -> Found:
    """Checks that a compiled update equals one that is not compiled."""
    return Found(assert_close(_train(optimizer, 3, jax.jit), _train(optimizer, 3, lambda f: f), "compiled", BOUND))


def check_state(optimizer: Optimizer) -> Found:
    """Checks that training continues to the same bits with a saved state and a transformation that is built again."""
    (tx, again), params = (build(optimizer, UPDATES) for _ in range(2)), _params()
    state = jax.jit(tx.update)(_grads(), tx.init(params), params)[1]
    saved = jax.tree.map(np.asarray, state)
    want = jax.jit(tx.update)(_grads(), state, params)[0]
    try:
        got = jax.jit(again.update)(_grads(), jax.tree.map(jnp.asarray, saved), params)[0]
    except Exception as fault:
        raise Failed(f"a transformation that is built again, with a saved state: {cause(optimizer, fault)}") from fault
    assert_close(got, want, "the update of a transformation that is built again, with a saved state, ", 0)
    return Found(note=f"{len(jax.tree.leaves(state))} arrays")


def check_learning_rate(optimizer: Optimizer) -> Found:
    """Checks that metrics can show the learning rate."""
    if "learning_rate" not in values_of(optimizer):
        raise Skipped("it has no field learning_rate")
    rate, given = learning_rate(build(optimizer, UPDATES).init(_params())), getattr(optimizer, "learning_rate")  # noqa: B009
    if math.isnan(rate):
        raise Failed("the state of its transformation has no learning_rate")
    if not 0 <= rate <= given * (1 + BOUND):
        raise Failed(f"the state says learning_rate = {rate:g}, and the field is {given:g}")
    return Found(note=f"{rate:g}")


def check_clip(optimizer: Optimizer) -> Found:
    """Checks that a gradient is scaled down to `clip_norm`, if the optimizer has this field."""
    values = values_of(optimizer)
    if "clip_norm" not in values:
        raise Skipped("it has no field clip_norm")
    try:
        clipping, plain = (type(optimizer)(**values | {"clip_norm": norm}) for norm in (1.0, None))
    except Error as why:
        raise Skipped(str(why)) from why
    grads = [_grads(scale) for scale in (13.0, 0.1, 5.0)]
    clipped = [jax.tree.map(lambda a, g=g: a / max(1.0, _norm(g)), g) for g in grads]
    got, want = _updates(clipping, grads), _updates(plain, clipped)
    return Found(assert_close(got, want, "updates of clipped gradients", BOUND))


def check_downhill(optimizer: Optimizer) -> Found:
    """Checks that it decreases a quadratic function."""
    first, last = _quadratic(_params()), _quadratic(_train(optimizer, UPDATES, jax.jit))
    if not last < first:
        raise Failed(f"after {UPDATES} updates, a quadratic function has risen from {first:.4g} to {last:.4g}")
    return Found(note=f"a quadratic function falls from {first:.3g} to {last:.3g}")


def check_num_updates(optimizer: Optimizer) -> Found:
    """Checks trainings of a single update, and updates after the last one."""
    for num_updates in (1, 2, 3):
        params = _train(optimizer, num_updates + 2, jax.jit, num_updates)
        if not all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(params)):
            raise Failed(f"in a training of {num_updates} updates, the parameters become NaN")
    return Found()


CHECKS = (
    Check(
        "build", check_build,
        "build(num_updates) returns an optax.GradientTransformation, whose updates are like the parameters",
    ),
    Check("compiled", check_jit, "use jax.numpy, and decide nothing by the value of an array in Python", BOUND),
    Check("state can be saved", check_state, "keep all that changes, and all that init is given, in the state"),
    Check(
        "learning rate", check_learning_rate,
        "build with optax.inject_hyperparams, or with ScheduledOptimizer.chain, so that metrics show the learning rate",
    ),
    Check(
        "clip_norm", check_clip, "clip the gradient before all else: optax.chain(optax.clip_by_global_norm(...), ...)",
        BOUND,
    ),
    Check("downhill", check_downhill, "optax adds updates to the parameters, so they point against the gradient"),
    Check("few updates", check_num_updates, "num_updates may be 1, and training may go on after it"),
)  # fmt: skip


def _promoting(function: Callable, optimizer: Optimizer) -> Found:
    """The check with the promotion of dtypes under which training calls optax, which mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        return function(optimizer)


def _params() -> dict[str, Any]:
    return {"a": jnp.array([1.0, -2.0, 3.0]), "b": {"c": jnp.array([[0.5]])}}


def _grads(scale: float = 1.0) -> dict[str, Any]:
    """The gradient at the start, whose norm is `scale`."""
    grads = jax.grad(_quadratic)(_params())
    return jax.tree.map(lambda a: a * (scale / _norm(grads)), grads)


def _quadratic(params: Any) -> Any:
    """Half the sum of squares, with curvatures of .1 and .4, so that a learning rate of 1 goes downhill."""
    return 0.05 * (jnp.sum(jnp.square(params["a"])) + 4 * jnp.sum(jnp.square(params["b"]["c"])))


def _norm(tree: Any) -> Any:
    return optax.tree.norm(tree)


def _train(optimizer: Optimizer, updates: int, jit: Callable, num_updates: int = UPDATES) -> Any:
    """The parameters after some updates of a training of `num_updates`."""
    tx = build(optimizer, num_updates)

    def update(params, state):
        updates, state = tx.update(jax.grad(_quadratic)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = _params()
    state, update = tx.init(params), jit(update)
    for _ in range(updates):
        params, state = update(params, state)
    return params


def _updates(optimizer: Optimizer, grads: list[Any]) -> list[Any]:
    """The updates for a sequence of gradients."""
    tx, params, all_updates = build(optimizer, UPDATES), _params(), []
    state = tx.init(params)
    for g in grads:
        updates, state = tx.update(g, state, params)
        all_updates.append(updates)
    return all_updates


def _same(got: Any, want: Any, what: str, like: str) -> None:
    """Raises unless two trees have the same structure, shapes and dtypes."""
    if str(jax.tree.structure(got)) != str(jax.tree.structure(want)):
        raise Failed(f"{what} are {jax.tree.structure(got)}, and the {like} {jax.tree.structure(want)}")
    for (path, g), w in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True):
        if dtype_shape(g) != dtype_shape(jnp.asarray(w)):
            raise Failed(f"{what}{jax.tree_util.keystr(path)} is {dtype_shape(g)}, and the {like} {dtype_shape(w)}")
