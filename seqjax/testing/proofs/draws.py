"""Checks of a strategy's randomness: draws follow the listed outcomes, independently for each row and call."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import chdtri

from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.window import Memory
from seqjax.gradients.steps.floats import partition_float
from seqjax.testing.compare import BOUND, Failed, Skipped
from seqjax.testing.proofs.calls import KEY, call, estimates, initial_memory, row_input, row_of
from seqjax.testing.proofs.cases import B, T, case
from seqjax.testing.proofs.claims import ALARM, max_steps
from seqjax.testing.quick_jit import quick_jit

NUM_DRAWS = 10_000
MOST_OUTCOMES = 256
"""The largest number of outcomes, so that each of them is drawn many times."""
RARE = 25
"""Outcomes that are expected fewer times are counted together, since chi-square's tail does not hold for them."""

NUM_ESTIMATES = 16
"""The number of draws whose gradients are compared."""


def check_draw(strategy: Gradient, starts: Sequence[Memory] = (), cases: Sequence[str] = ("small",)) -> float:
    """Checks that `draw` follows the probabilities of `outcomes`.

    Args:
        strategy: the strategy.
        starts: memories of one row. Draws are made from each of them, from a new row's memory, and from the memories
            that two windows leave.
        cases: the name of the problem.

    Returns:
        Chi-square of many draws as a share of its limit.
    """
    name = cases[0]
    c = case(name)
    try:
        num_steps = max_steps(strategy, name, lambda count: count <= MOST_OUTCOMES)
    except NotImplementedError:
        raise Skipped("outcomes are not listed") from None
    if not num_steps:
        raise Skipped("there are too many outcomes to see each often")
    left = estimates(strategy, c, c.windows[:2])[-1].memory
    new = strategy.init(c.problem, c.params, row_of(c.state, 2), row_input(c))
    kept = [start.rows for start in starts] + [row_of(left.rows, b) for b in range(1, B)]
    memories = [new, *(Memory(left.shared, rows) for rows in kept)]
    keys = jax.random.split(jax.random.key(KEY), NUM_DRAWS)
    drawn = [_drawn(strategy, c.problem, num_steps, c.params, keys, memory) for memory in memories]
    return max(_chi_square(each, len(drawn)) for each in drawn)


def check_rows_draw_apart(strategy: Gradient, cases: Sequence[str] = ("learned",), num_calls: int = 16) -> None:
    """Checks that equal rows with different numbers, and one row in several calls, get different gradients.

    Where draws have no effect on the gradient of a first window, what is carried to the next one is compared.
    """
    c = case(cases[0])
    alike = lambda tree, axis: jax.tree.map(lambda a: jnp.take(a, jnp.zeros(B, int), axis), tree)
    state, memory = alike(c.state, 0), initial_memory(strategy, c.problem, c.params, c.state, row_input(c))
    memory = memory._replace(rows=alike(memory.rows, 0))
    batch = c.windows[0]._replace(xs=alike(c.windows[0].xs, 1), reset=jnp.zeros(B, bool))
    gradients, carried, what = [], [], "gradients"
    for key in jax.random.split(jax.random.key(KEY), num_calls):
        for b in range(B):
            row = batch._replace(weights=jnp.where(jnp.arange(B) == b, 1 / T, jnp.zeros((T, B))))
            e = call(strategy, c.problem, c.params, state, memory, row, key)
            gradients.append(_bytes(e.grads))
            carried.append(_bytes((e.memory.shared, row_of(e.memory.rows, b))))
    if len(set(gradients)) == 1 and _has_no_effect(strategy, c, state, memory, batch):
        if len(set(carried)) == 1:
            raise Skipped(
                f"in windows of {T} steps, every draw gives the same gradient; check it with other fields too"
            )
        gradients, what = carried, "memory"
    by_row = [tuple(gradients[b::B]) for b in range(B)]
    if len(set(by_row)) < B:
        raise Failed(f"rows that differ only in their number get the same {what} in each of {num_calls} calls")
    if any(len(set(row)) == 1 for row in by_row):
        raise Failed(f"a row gets the same {what} in each of {num_calls} calls with different keys")


def _bytes(tree):
    """The floats of a tree in float32, in which float64 numbers that only differ in their last bits are equal."""
    leaves = jax.tree.leaves(jax.device_get(partition_float(tree)[0]))
    return b"".join(np.ravel(a).astype(np.float32).tobytes() for a in leaves)


def _has_no_effect(strategy, c, state, memory, batch):
    """Whether draws vary, or cannot vary, and all of them give the same gradient."""
    keys = jax.random.split(jax.random.key(KEY), NUM_ESTIMATES)
    row = memory._replace(rows=row_of(memory.rows, 0))
    noise = jax.vmap(lambda key: strategy.draw(key, c.problem, c.params, row, T))(keys)
    if all(bool((a == a[:1]).all()) for a in jax.tree.leaves(noise)):
        try:
            probability = np.asarray(strategy.outcomes(c.problem, c.params, row, T)[1])
        except NotImplementedError:
            return False
        return bool((probability > 0).sum() == 1)

    def gradient(key):
        return strategy.draw_and_estimate(c.problem, c.params, lambda params: state, memory, batch, key).grads

    grads = jax.tree.leaves(quick_jit(jax.vmap(gradient))(keys))
    return all(bool((jnp.abs(a - a[:1]) <= BOUND).all()) for a in grads)


@functools.partial(quick_jit, static_argnums=(0, 1, 2))
def _drawn(strategy, problem, num_steps, params, keys, memory):
    """Draws and outcomes as rows of numbers, and the outcomes' probabilities."""
    drawn = jax.vmap(lambda key: strategy.draw(key, problem, params, memory, num_steps))(keys)
    outcomes, probability = strategy.outcomes(problem, params, memory, num_steps)
    flat = lambda noise: jnp.concatenate(
        [jnp.reshape(jnp.asarray(a), (len(a), -1)).astype(float) for a in jax.tree.leaves(noise)], 1
    )
    return flat(drawn), flat(outcomes), probability


def _chi_square(draws, num_tests):
    """The statistic as a share of the limit that a correct strategy exceeds with probability `ALARM`."""
    drawn, outcomes, probability = jax.device_get(draws)
    index = {row.tobytes(): i for i, row in enumerate(np.asarray(outcomes))}
    if len(index) < len(outcomes):
        raise Failed("outcomes lists one outcome twice")
    indices = [index.get(row.tobytes(), -1) for row in np.asarray(drawn)]
    if min(indices) < 0:
        raise Failed(f"draw gave {np.asarray(drawn)[indices.index(-1)]}, which is not one of the outcomes")
    counts = np.bincount(indices, minlength=len(outcomes))
    expected = len(indices) * np.asarray(probability, np.float64)
    if counts[expected == 0].any():
        raise Failed("draw gave an outcome of probability 0")
    rare = expected < RARE
    counts, expected = (np.append(a[~rare], a[rare].sum()) for a in (counts, expected))
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic = float(np.sum((counts - expected) ** 2 / expected))
    share = statistic / float(chdtri(max(len(expected) - 1, 1), ALARM / num_tests))
    if not share <= 1:
        raise Failed(f"chi-square {statistic:.1f} of {len(indices)} draws is {share:.1f} times its limit", share)
    return share
