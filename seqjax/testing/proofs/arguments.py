"""Checks the gradients of each argument of a scan: of the parameters, of the state at the start, of the inputs."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.calls.estimating import estimate
from seqjax.gradients.calls.scan_problem import Arguments, Differentiated
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.steps.floats import combine, partition_float
from seqjax.testing.compare import Skipped, assert_close
from seqjax.testing.proofs.calls import KEY, batch_of_row, outcome_means, row_input, row_of
from seqjax.testing.proofs.cases import B, Case, T, case
from seqjax.testing.proofs.claims import enumerable
from seqjax.testing.proofs.oracle import arguments_of_rows
from seqjax.testing.quick_jit import quick_jit

FEW = 2**14
"""The largest number of outcomes over which an estimate is summed."""


def check_arguments(strategy: Gradient, cases: Sequence[str] = ("foreign", "small")) -> float:
    """Checks the gradient of every argument in `strategy.argnums`, in a window that starts in a given state.

    An exact strategy is compared with the chain rule in a Python loop, and an unbiased one whose outcomes are listed is
    summed over all of them. Any other strategy without randomness is compared with itself: a shift that is added to all
    inputs, or to all initial states, is a parameter whose gradient is the sum of their gradients.
    """
    outputs = max(_check_outputs(strategy, name) for name in cases)
    if strategy.claim == "unbiased":
        listed = [name for name in enumerable(strategy, ["small", "linear"], strategy.of) if name in cases]
        if not listed:
            raise Skipped("its outcomes are too many to list")
        return max(outputs, *(_check_mean(strategy, name) for name in listed))
    if strategy.draws:
        raise Skipped("neither exact nor unbiased, and random")
    check = _check_exact if strategy.claim == "exact" else _check_shifts
    return max(outputs, *(check(strategy, name) for name in cases))


def _check_outputs(strategy: Gradient, name: str) -> float:
    """Compares what the steps return beside the loss with a loop over them."""
    c, key = case(name), jax.random.key(KEY)
    xs = c.windows[0].xs

    def step(params, state, x):
        state, loss = c.step(params, state, x)
        return state, (loss, (partition_float(state)[0], 2 * loss))

    state, outputs = c.state, []
    rows = quick_jit(jax.vmap(step, (None, 0, 0)))
    for t in range(T):
        state, (_, output) = rows(c.params, state, jax.tree.map(lambda a, t=t: a[t], xs))
        outputs.append(output)
    want = jax.tree.map(lambda *a: jnp.stack(a), *outputs), state
    found = quick_jit(estimate(step, strategy, has_aux=True, batched=True))(c.params, c.state, xs, key=key)
    return assert_close((found.outputs, found.state), want, f"{name}, outputs, ")


def _check_exact(strategy: Gradient, name: str) -> float:
    """Compares with the chain rule."""
    rows = arguments_of_rows(name)
    want = Arguments(
        jax.tree.map(lambda *a: sum(a), *[row.params for row in rows]),
        jax.tree.map(lambda *a: np.stack(a), *[row.state for row in rows]),
        jax.tree.map(lambda *a: np.stack(a, 1), *[row.xs for row in rows]),
    )
    return assert_close(_grads(strategy, case(name)), _chosen(want, strategy), f"{name}, ")


def _check_mean(strategy: Gradient, name: str) -> float:
    """Compares the mean over all outcomes with the chain rule, row by row."""
    worst = 0.0
    for b in range(B):
        num_steps = next((n for n in (3, 2, 1) if _count(strategy, name, n, b) <= FEW), None)
        if num_steps is None:
            raise Skipped("its outcomes are too many to list")
        c, scan = case(name, num_steps), _scan_of_row(strategy, name, num_steps, b)
        problem, state, x = _from_start(scan), row_of(c.state, b), row_input(c)
        memories = jax.tree.map(lambda a: a[None], strategy.init(problem, scan.args, state, x))
        batch = batch_of_row(c.windows[0], b)._replace(reset=np.ones(1, bool))
        means, _, _ = outcome_means(strategy, problem, scan.args, state, memories, batch, room=1)
        grads = scan.by_argument(jax.tree.map(lambda a: a[0], means.grads))
        row = arguments_of_rows(name, num_steps=num_steps)[b]
        want = Arguments(
            row.params, jax.tree.map(lambda a: a[None], row.state), jax.tree.map(lambda a: a[:, None], row.xs)
        )
        worst = max(worst, assert_close(_chosen(grads, strategy), _chosen(want, strategy), f"{name}, row {b}, "))
    return worst


def _count(strategy, name, num_steps, b):
    """The number of outcomes; infinite if they are too many to list."""
    scan = _scan_of_row(strategy, name, num_steps, b)
    c, problem = case(name, num_steps), _from_start(scan)
    memory = strategy.init(problem, scan.args, row_of(c.state, b), row_input(c))
    try:
        return jax.eval_shape(lambda m: strategy.outcomes(problem, scan.args, m, num_steps)[1], memory).shape[0]
    except NotImplementedError:
        return math.inf


def _from_start(scan):
    """The problem of a scan of one row, in which a row that is reset starts in the state among its parameters."""
    return scan.problem.changed(init_state=lambda args, key=None: row_of(scan.start(args), 0))


def _scan_of_row(strategy, name, num_steps, b):
    """The scan of one row, of which the arguments are differentiated that the strategy differentiates."""
    c = case(name, num_steps)
    xs = batch_of_row(c.windows[0], b).xs
    state = jax.tree.map(lambda a: a[b : b + 1], c.state)
    return Differentiated(c.problem, c.params, state, xs, strategy.argnums)


def _check_shifts(strategy: Gradient, name: str) -> float:
    """Compares the gradients of inputs and initial states with the gradients of shifts that are added to them."""
    c = case(name)
    grads = dict(zip(strategy.argnums, _grads(strategy, c), strict=True))
    x = partition_float(jax.tree.map(lambda a: a[0, 0], c.windows[0].xs))[0]
    shift = jax.tree.map(jnp.zeros_like, x)

    def step(params, state, x):
        params, shift = params
        floats, others = partition_float(x)
        return c.step(params, state, combine(jax.tree.map(jnp.add, floats, shift), others))

    shifted = _grads(strategy, c._replace(step=step, params=(c.params, shift)), (0,))[0]
    worst = assert_close(shifted[0], grads[0], f"{name}, parameters, ")
    if 2 in grads:
        total = jax.tree.map(lambda a: a.sum((0, 1)), grads[2])
        worst = max(worst, assert_close(shifted[1], total, f"{name}, inputs, "))
    if 1 in grads:
        alone = _grads(strategy, c, (1,))[0]
        worst = max(worst, assert_close(alone, grads[1], f"{name}, state, "))
    return worst


def _grads(strategy: Gradient, c: Case, argnums: Sequence[int] | None = None) -> tuple:
    """The gradients of the first window by argument."""
    numbers = strategy.argnums if argnums is None else argnums
    run = quick_jit(estimate(c.step, strategy, argnums=tuple(numbers), batched=True))
    batch = c.windows[0]
    return run(c.params, c.state, batch.xs, weights=batch.weights, key=jax.random.key(KEY)).grads


def _chosen(grads: Arguments, strategy: Gradient) -> tuple:
    return tuple(grads[i] for i in strategy.argnums)
