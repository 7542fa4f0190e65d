"""Checks of what a strategy claims, against brute force: exact, or unbiased by summing over every outcome."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from seqjax.errors import Error
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.window import Memory
from seqjax.testing.compare import BOUND, Failed, assert_close
from seqjax.testing.proofs.calls import (
    KEY,
    Sums,
    batch_of_row,
    estimates,
    initial_memory,
    outcome_means,
    row_input,
    row_of,
)
from seqjax.testing.proofs.cases import MAIN, RESET, B, T, case
from seqjax.testing.proofs.oracle import Truth, truth, truth_of_rows, truth_of_scan
from seqjax.testing.quick_jit import quick_jit

LIMIT = 4096
"""The largest number of estimates that a check enumerates at a time."""
MEMORIES = 8
"""The number of different memories with which a window is entered, where windows are proved one by one."""
ALARM = 1e-9
"""The probability that a correct strategy fails a check that samples."""


def check_values(strategy: Gradient, cases: Sequence[str] = MAIN) -> float:
    """Checks loss and state of each of three windows: the way in which a gradient is taken changes neither."""
    worst = 0.0
    for name in cases:
        for w, estimate in enumerate(estimates(strategy, case(name))):
            want = truth(name, w, w + 1)
            error = assert_close(
                Truth(estimate.loss, (), estimate.state), want._replace(grads=()), f"{name}, window {w}, "
            )
            worst = max(worst, error)
    return worst


def check_window(strategy: Gradient, edge_weights: Any = None, cases: Sequence[str] = MAIN) -> float:
    """Checks loss, gradient and state of each of three windows, with a constant state entering each of them.

    Args:
        strategy: the strategy.
        edge_weights: float[T] or float[T, B], which multiply the tangent that enters each step; None: ones.
        cases: the names of the problems.
    """
    worst = 0.0
    for name in cases:
        for w, estimate in enumerate(estimates(strategy, case(name))):
            want = truth(name, w, w + 1, edge_weights)
            worst = max(worst, assert_close(Truth(*estimate[:3]), want, f"{name}, window {w}, "))
    return worst


def check_history(strategy: Gradient, cases: Sequence[str] = MAIN) -> float:
    """Checks that the gradients of three windows add up to the gradient of the whole sequence."""
    worst = 0.0
    for name in cases:
        made = estimates(strategy, case(name))
        loss, grads = jax.tree.map(lambda *a: sum(a), *[(e.loss, e.grads) for e in made])
        got, want = Truth(loss, grads, made[-1].state), truth(name, 0, len(made))
        worst = max(worst, assert_close(got, want, f"{name}, sum of three windows, "))
    return worst


def check_unbiased(
    strategy: Gradient, starts: Sequence[Memory] = (), cases: Sequence[str] = ("learned", "foreign")
) -> float:
    """Checks for each row and window that outcomes times probabilities sum to the window's gradient, for any memory.

    Args:
        strategy: the strategy.
        starts: memories of one row. The first window is entered with each of them, and with the strategy's own memory.
            A later window is entered with the memories that some outcomes of the previous window left.
        cases: the names of the problems.
    """
    worst = 0.0
    for name in cases:
        num_steps = _max_steps(strategy, name, "window")
        for b in range(B):
            for w, (means, _) in enumerate(_walk(strategy, name, num_steps, b, MEMORIES, starts)):
                want = truth_of_rows(name, w, w + 1, num_steps=num_steps)[b]
                wanted = jax.tree.map(
                    lambda a: np.broadcast_to(a, (MEMORIES, *np.shape(a))), Sums(want.loss, want.grads, np.ones(()))
                )
                worst = max(worst, assert_close(means, wanted, f"{name}, row {b}, window {w}, "))
    return worst


def check_unbiased_long(strategy: Gradient, name: str = "small") -> tuple[float, int]:
    """Checks that outcomes times probabilities sum to the gradient of a window of as many steps as can be listed.

    A strategy that cuts seldom cuts a short window at most once, which does not reveal a wrong weight of two cuts.

    Returns:
        The worst error, and the number of steps; 0 if no longer window than `check_unbiased` has can be listed.
    """
    c, b = case(name), 2
    batches = [batch_of_row(window, b) for window in c.windows]
    xs, weights = jax.tree.map(lambda *a: jnp.concatenate(a), *[(batch.xs, batch.weights) for batch in batches])
    state = row_of(c.state, b)
    memory = strategy.init(c.problem, c.params, state, row_input(c))

    def count(num_steps):
        try:
            return jax.eval_shape(lambda m: strategy.outcomes(c.problem, c.params, m, num_steps)[1], memory).shape[0]
        except Error:
            return LIMIT + 1

    num_steps = next((n for n in range(len(weights), T, -1) if count(n) <= LIMIT), 0)
    if not num_steps:
        return 0.0, 0
    xs, weights = jax.tree.map(lambda a: a[:num_steps], (xs, weights))
    batch = batches[0]._replace(xs=xs, weights=weights, reset=jnp.zeros(1, bool))
    means = outcome_means(strategy, c.problem, c.params, state, jax.tree.map(lambda a: a[None], memory), batch, room=1)[
        0
    ]

    def step(params, state, x):
        x, weight = x
        state, loss = c.step(params, state, x)
        return state, weight * loss

    row = jax.tree.map(lambda a: a[:, 0], (xs, weights))
    want = truth_of_scan(step, c.params, state, [row])
    got = jax.tree.map(lambda a: a[0], means.grads)
    return assert_close(got, want.grads, f"{name}, a window of {num_steps} steps, "), num_steps


def check_unbiased_history(strategy: Gradient, cases: Sequence[str] = ("small", "linear")) -> float:
    """Checks for each row that joint outcomes of three windows, with memory carried, sum to the sequence's gradient."""
    worst = 0.0
    for name in cases:
        num_steps = _max_steps(strategy, name, "history")
        room = num_outcomes(strategy, name, num_steps) ** (len(RESET) - 1)
        for b in range(B):
            total = []
            for means, p in _walk(strategy, name, num_steps, b, room):
                total.append(jax.tree.map(functools.partial(_weighted, p), means))
            got = jax.tree.map(lambda *a: sum(a), *total)
            want = truth_of_rows(name, 0, len(RESET), num_steps=num_steps)[b]
            wanted = Sums(want.loss, want.grads, np.full((), float(len(RESET))))
            worst = max(worst, assert_close(got, wanted, f"{name}, row {b}, sum of three windows, "))
    return worst


def check_mean(strategy: Gradient, cases: Sequence[str] = ("learned", "small"), num_calls: int = 2048) -> float:
    """Checks that whole calls average to the true gradient, for strategies whose outcomes are not listed.

    Returns:
        The worst z-score as a share of its limit. It uses the variance of the calls themselves.
    """
    worst = 0.0
    for name in cases:
        c = case(name)
        memory = initial_memory(strategy, c.problem, c.params, c.state, row_input(c))
        windows = jax.tree.map(lambda *a: jnp.stack(a), *c.windows)
        keys = jax.random.split(jax.random.key(KEY), num_calls)
        grads = jax.device_get(_sampled(strategy, c.problem, c.params, c.state, memory, windows, keys))
        if strategy.of == "history":
            pairs = [(jax.tree.map(lambda a: a.sum(1), grads), truth(name, 0, len(RESET)).grads)]
        else:
            windows = range(len(RESET))
            pairs = [(jax.tree.map(lambda a, w=w: a[:, w], grads), truth(name, w, w + 1).grads) for w in windows]
        for got, want in pairs:
            worst = max(worst, largest_deviation(got, want, name, len(pairs) * len(cases)))
    return worst


def _weighted(p, a):
    """The sum over the leading axis, weighted by p."""
    return np.tensordot(p, np.asarray(a), 1)


def largest_deviation(samples: Any, want: Any, what: str, num_tests: int) -> float:
    """The largest z-score of the means of all entries, as a share of its limit.

    Args:
        samples: leaves [N, ...].
        want: the true means.
        what: what they are, for the message.
        num_tests: the number of such comparisons; a correct strategy passes all of them with the probability 1 -
            `ALARM`.

    Raises:
        Failed: it is above its limit.
    """
    worst, at, count = 0.0, what, 0
    for (path, got), w in zip(jax.tree.leaves_with_path(samples), jax.tree.leaves(want), strict=True):
        floor = BOUND * (np.max(np.abs(w)) or 1.0)
        z = np.abs(got.mean(0) - w) / np.maximum(got.std(0) / np.sqrt(len(got)), floor)
        count += z.size
        if not np.max(z) <= worst:
            worst, at = float(np.max(z)), what + jax.tree_util.keystr(path)
    limit = float(-ndtri(ALARM / (2 * num_tests * count)))
    if not worst <= limit:
        raise Failed(f"{at}: z-score {worst:.1f} > {limit:.1f} of the mean of {len(got)} calls", worst / limit)
    return worst / limit


@functools.partial(quick_jit, static_argnums=(0, 1))
def _sampled(strategy, problem, params, state, memory, windows, keys):
    """The gradients [N, 3, ...] of three consecutive windows, for N keys."""

    def run(key):
        def window(carry, inputs):
            i, batch = inputs
            e = strategy(problem, params, *carry, batch, jax.random.fold_in(key, i))
            return (e.state, e.memory), e.grads

        return jax.lax.scan(window, (state, memory), (jnp.arange(len(RESET)), windows))[1]

    return jax.lax.map(run, keys, batch_size=256)


def _walk(strategy, name, num_steps, b, room, starts=()):
    """Takes row b through three windows, with many memories at a time.

    Args:
        strategy: the strategy.
        name: the problem.
        num_steps: the length of a window.
        b: the row.
        room: the number of memories that are followed at a time. If there are more joint outcomes of the windows so
            far, some of the memories that they leave are followed.
        starts: see `check_unbiased`.

    Yields:
        For each window the means over its outcomes for each memory, and the probabilities of the memories.
    """
    c = case(name, num_steps)
    state = row_of(c.state, b)
    new = strategy.init(c.problem, c.params, state, row_input(c))
    known = [new, *(new._replace(rows=start.rows) for start in starts)]
    memories = jax.tree.map(lambda *a: jnp.stack(a), *[known[i % len(known)] for i in range(room)])
    p, count = np.eye(1, room)[0], len(known)
    for w, window in enumerate(c.windows):
        batch = batch_of_row(window, b)
        means, probability, left = outcome_means(strategy, c.problem, c.params, state, memories, batch, room=room)
        yield means, p
        # One compiled program serves all windows, so there are always `room` memories. While there are fewer outcomes,
        # the rest are copies of probability 0.
        joint = (p[:, None] * np.asarray(probability)).ravel()
        count *= probability.shape[1]
        chosen = np.linspace(0, count - 1, min(room, count)).astype(int)
        count, fill = len(chosen), np.zeros(room - len(chosen), int)
        p = np.append(joint[chosen], np.zeros(len(fill)))
        memories = _take(left, np.append(chosen, fill))
        state = truth_of_rows(name, w, w + 1, num_steps=num_steps)[b].state


@quick_jit
def _take(tree, order):
    """The leaves [K, M, ...] as [K M, ...], with their entries in this order."""
    return jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])[order], tree)


def enumerable(strategy: Gradient, cases: Sequence[str], of: str) -> list[str]:
    """The cases whose outcomes can be enumerated; none if the strategy does not list its outcomes.

    If the two small problems have equally many outcomes, the noise does not grow with the size of a problem, and all
    cases are enumerated; otherwise only the small problems are.
    """
    small = [name for name in ("small", "linear") if name in cases]
    try:
        fixed = len({num_outcomes(strategy, name, 1) for name in small}) < len(small)
        return [name for name in (cases if fixed or not small else small) if _max_steps(strategy, name, of)]
    except NotImplementedError:
        return []


def _max_steps(strategy, name, of):
    """The largest number of steps whose outcomes and memories can be enumerated; 0 if even one step has too many."""
    return max_steps(strategy, name, lambda count: (MEMORIES * count if of == "window" else count**3) <= LIMIT)


def max_steps(strategy: Gradient, name: str, few: Callable[[int], bool]) -> int:
    """The largest number of steps for which `few(number of outcomes)` is True; 0 if there is none."""
    most = 0
    for n in range(1, T + 1):
        count = num_outcomes(strategy, name, n)
        if count and not few(count):
            break
        most = n if count else most
    return most


def num_outcomes(strategy: Gradient, name: str, num_steps: int) -> int:
    """The number of outcomes for so many steps of a case; 0 if the strategy does not take windows of this length."""
    c = case(name)
    memory = strategy.init(c.problem, c.params, row_of(c.state, 2), row_input(c))

    def probabilities(params, memory):
        return strategy.outcomes(c.problem, params, memory, num_steps)[1]

    try:
        return jax.eval_shape(probabilities, c.params, memory).shape[0]
    except Error:
        return 0
