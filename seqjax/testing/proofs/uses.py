"""Checks of a strategy in other uses: on a bare scan, on a state without floats, over seeds, in half precision."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.errors import Error
from seqjax.gradients.calls.estimating import estimate
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.problem import Problem
from seqjax.gradients.contract.rows import init_memory, one_input
from seqjax.gradients.contract.wrapping import Wrapping
from seqjax.models.model import ModelProblem
from seqjax.testing.compare import Failed, Skipped, assert_close, relative_error
from seqjax.testing.proofs.calls import KEY, call, initial_memory, row_input
from seqjax.testing.proofs.cases import NO_FLOATS, B, T, case
from seqjax.testing.proofs.claims import check_unbiased, check_values, enumerable
from seqjax.testing.proofs.contract import check_estimate
from seqjax.testing.quick_jit import quick_jit

HALF_BOUND = 0.1
"""The largest distance between the mean gradients in bfloat16 and in float32, relative to the norm."""


def check_scan(strategy: Gradient, cases: Sequence[str] = ("foreign",)) -> float:
    """Checks that `estimate` of a bare scan body gives all steps equal weights and resets no row.

    A strategy that refuses a bare scan body gets the problem of the model.
    """
    worst, key = 0.0, jax.random.key(KEY)
    for name in cases:
        c = case(name)
        even = c.windows[0]._replace(weights=jnp.full((T, B), 1 / (T * B)), reset=jnp.zeros(B, bool))
        # Without the initial state of the problem, of which a bare scan body does not know.
        problem = Problem(c.step)
        try:
            got = quick_jit(estimate(c.step, strategy, batched=True))(c.params, c.state, even.xs, key=key)
        except Error as why:
            if not isinstance(c.problem, ModelProblem):
                raise Skipped(f"refused: {why}") from None
            problem = c.problem  # it takes models alone
            got = quick_jit(estimate(problem, strategy, batched=True))(c.params, c.state, even.xs, key=key)
        memory = initial_memory(strategy, problem, c.params, c.state, row_input(c))
        want = call(strategy, problem, c.params, c.state, memory, even, key)
        worst = max(worst, assert_close(got, want, f"{name}, "))
    return worst


def check_units(strategy: Gradient, cases: Sequence[str] = ("cell",)) -> float:
    """Checks that M by units and M float[S, P] follow one rule: a bare step has no units.

    What is carried differs in form, so that only loss, gradient and state are compared, after a window.
    """
    worst, key = 0.0, jax.random.key(KEY)
    for name in cases:
        c = case(name)
        found = []
        for step in (c.problem, c.problem.step):
            by = quick_jit(estimate(step, strategy, batched=True))
            found.append(by(c.params, c.state, c.windows[0].xs, key=key)._replace(memory=None))
        worst = max(worst, assert_close(found[1], found[0], f"{name}, dense and by units, "))
    return worst


def check_no_floats(strategy: Gradient, cases: Sequence[str] = NO_FLOATS) -> float:
    """Checks states without float leaves: there is nothing to cut, so the mean over outcomes is the gradient.

    Only loss and state are checked where outcomes cannot be enumerated, and of a strategy that is biased for another
    reason than cuts: a wrapper may change any gradient, and `drops_losses = True` leaves losses out.
    """
    changes_all = isinstance(strategy, Wrapping) or strategy.drops_losses
    if (changes_all and strategy.claim == "biased") or len(enumerable(strategy, cases, "window")) < len(cases):
        return check_values(strategy, cases)
    return check_unbiased(strategy, cases=cases)


def check_seeds(strategy: Gradient, cases: Sequence[str] = ("learned",)) -> float:
    """Checks that a vmap over parameters and keys equals a loop over them."""
    worst, keys = 0.0, jax.random.split(jax.random.key(KEY), 2)
    for name in cases:
        c = case(name)
        memory, batch = initial_memory(strategy, c.problem, c.params, c.state, row_input(c)), c.windows[0]
        params = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), c.params)
        one = functools.partial(call, strategy, c.problem)
        both = jax.vmap(one, (0, None, None, None, 0))(params, c.state, memory, batch, keys)
        for i in range(2):
            p, got = jax.tree.map(lambda a, i=i: a[i], (params, both))
            want = one(p, c.state, memory, batch, keys[i])
            worst = max(worst, assert_close(got, want, f"{name}, seed {i}, "))
    return worst


def check_half(strategy: Gradient, cases: Sequence[str] = ("learned",)) -> float:
    """Checks a computation in bfloat16: it keeps every dtype, is finite, and in the mean is close to float32."""
    (name,) = cases
    with jax.enable_x64(False):
        c = case(name)
        half = c.state
        if name == "learned":  # a `Cell` does not round its state
            half = half | {"h": half["h"].astype(jnp.bfloat16)}
        problem = c.problem.in_bfloat16()
        check_estimate(strategy, problem, c.params, half, c.windows[0], f"{name}, bfloat16")
        means = [
            jax.device_get(_mean_over_keys(strategy, p, c.params, s, c.windows[0]))
            for p, s in ((problem, half), (c.problem, c.state))
        ]
        if not all(np.isfinite(a).all() for a in jax.tree.leaves(means)):
            raise Failed(f"{name}: loss or gradient in bfloat16 is not finite", np.inf)
        error = relative_error(*means)
        if error > HALF_BOUND:
            raise Failed(f"{name}: the mean in bfloat16 is {error:.2g} from the mean in float32 > {HALF_BOUND}", error)
        return error


@functools.partial(quick_jit, static_argnums=(0, 1))
def _mean_over_keys(strategy, problem, params, state, batch):
    memory = init_memory(strategy, problem, params, state, B, one_input(batch.xs))
    keys = jax.random.split(jax.random.key(KEY), 16 if strategy.draws else 1)
    each = jax.vmap(lambda key: strategy(problem, params, state, memory, batch, key)[:2])(keys)
    return jax.tree.map(lambda a: a.mean(0), each)
