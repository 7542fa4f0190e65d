"""Checks of the shapes and dtypes that a strategy returns. It is traced, and nothing is computed."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.errors import dtype_shape
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.problem import Problem
from seqjax.gradients.contract.rows import init_memory, one_input
from seqjax.gradients.contract.window import Batch, Estimate, Memory
from seqjax.testing.compare import Failed
from seqjax.testing.proofs.calls import KEY, call, row_input, row_of
from seqjax.testing.proofs.cases import CASES, B, Case, T, case
from seqjax.testing.proofs.claims import max_steps

AGES = 1000
"""The number of ages at which the hazard of random cuts is checked."""


def check_contract(strategy: Gradient, cases: Sequence[str] = CASES) -> None:
    """Checks memory, noise and estimate by their structure, shapes and dtypes."""
    for name in cases:
        c = case(name)
        init = functools.partial(strategy.init, c.problem)
        memory = jax.eval_shape(init, c.params, row_of(c.state, 0), row_input(c))
        if not isinstance(memory, Memory):
            raise Failed(f"{name}: init returns no Memory; return seqjax.gradients.Memory(shared=..., rows=...)")
        init_rows = functools.partial(init_memory, strategy, c.problem, num_rows=B)
        of_rows = jax.eval_shape(init_rows, c.params, c.state, x=row_input(c))
        shown = tuple(jax.eval_shape(strategy.metrics, of_rows))
        if sorted(shown) != sorted(strategy.metric_names):
            raise Failed(f"{name}: metrics returns {shown}, and metric_names is {strategy.metric_names}")
        strategy.check_values(strategy.init(c.problem, c.params, row_of(c.state, 0), row_input(c)), AGES)
        _check_noise(strategy, c, memory, name)
        check_estimate(strategy, c.problem, c.params, c.state, c.windows[0], name)


def check_estimate(strategy: Gradient, problem: Problem, params: Any, state: Any, batch: Batch, name: str) -> None:
    """Checks one call: the loss is float[], and all else has the structure, shapes and dtypes of what went in."""
    memory = jax.eval_shape(lambda p, s: init_memory(strategy, problem, p, s, B, one_input(batch.xs)), params, state)
    key = jax.random.key(KEY)
    e = call.eval_shape(strategy, problem, params, state, memory, batch, key)
    if not isinstance(e, Estimate) or not isinstance(e.memory, Memory):
        returned = type(e if not isinstance(e, Estimate) else e.memory).__name__
        raise Failed(
            f"{name}: found {returned}; return seqjax.gradients.Estimate(loss, grads, state, "
            "seqjax.gradients.Memory(shared, rows))"
        )
    dtype = jax.tree.leaves(params)[0].dtype
    if dtype_shape(e.loss) != f"{dtype}[]":
        returned = dtype_shape(e.loss)
        raise Failed(
            f"{name}: the loss is {returned}, not {dtype}[]: return (loss, grads, state, memory), in which the loss is "
            "one number, the weighted sum of losses"
        )
    _check_same(e.grads, params, f"{name}: grads", "parameters", "return the tree of the parameters, in their dtypes")
    _check_same(e.state, state, f"{name}: state", "state that went in", "return the state as the step gives it")
    advice = "keep structure, shapes and dtypes: cast with .astype what a calculation has promoted"
    _check_same(e.memory, memory, f"{name}: memory", "memory that went in", advice)


def _check_noise(strategy: Gradient, c: Case, memory: Memory, name: str) -> None:
    """Checks that a draw has the structure, shapes and dtypes of one entry of `outcomes`."""
    if not strategy.draws:
        return
    key = jax.random.key(KEY)
    draw = functools.partial(strategy.draw, key, c.problem)
    outcomes_of = functools.partial(strategy.outcomes, c.problem)
    # The number of steps is static, so that it cannot be an argument of a function that is traced.
    drawn = jax.eval_shape(lambda params, memory: draw(params, memory, T), c.params, memory)
    try:
        num_steps = max_steps(strategy, name, lambda count: count <= 64) or 1
        outcomes, probability = jax.eval_shape(lambda p, memory: outcomes_of(p, memory, num_steps), c.params, memory)
        drawn = jax.eval_shape(lambda params, memory: draw(params, memory, num_steps), c.params, memory)
    except NotImplementedError:
        outcomes = None
    if not jax.tree.leaves(drawn):
        raise Failed(f"{name}: draw returns no array; leave draw out where nothing is random")
    if outcomes is None:
        return
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), outcomes)
    drawn, one = _widest(drawn), _widest(one)
    _check_same(drawn, one, f"{name}: draw", "entry of outcomes", "let outcomes stack what draw returns")
    lengths = {a.shape[:1] for a in (*jax.tree.leaves(outcomes), probability)}
    if probability.ndim != 1 or len(lengths) > 1:
        shown = [a.shape for a in (*jax.tree.leaves(outcomes), probability)]
        raise Failed(f"{name}: outcomes returns leaves of shapes {shown}; return noise [M, ...] and probability [M]")


def _widest(tree):
    """Shapes and dtypes in which integers of all widths are the same, as they are without the 64 bits of the checks."""

    def widest(a):
        return jax.ShapeDtypeStruct(a.shape, np.int64) if jnp.issubdtype(a.dtype, jnp.signedinteger) else a

    return jax.tree.map(widest, tree)


def _check_same(got, want, what, like, advice):
    """Raises unless two trees have the same structure, shapes and dtypes."""
    if str(jax.tree.structure(got)) != str(jax.tree.structure(want)):
        raise Failed(f"{what} is {jax.tree.structure(got)}, and the {like} {jax.tree.structure(want)}; {advice}")
    for (path, g), w in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True):
        actual, wanted = dtype_shape(g), dtype_shape(w)
        if actual != wanted:
            raise Failed(f"{what}{jax.tree_util.keystr(path)} is {actual}, and the {like} {wanted}; {advice}")
