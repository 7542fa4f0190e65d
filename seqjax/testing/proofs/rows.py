"""Checks that rows and steps do not affect each other: permuted, padded, unscored, reset, on other devices."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.window import Batch, Estimate, Memory
from seqjax.testing.compare import Failed, Skipped, assert_close, assert_far
from seqjax.testing.proofs.calls import (
    KEY,
    Sums,
    call,
    estimates,
    initial_memory,
    row_input,
    row_of,
    with_rows_in_order,
)
from seqjax.testing.proofs.cases import LEARNED_STATE, TARGETS, B, case
from seqjax.testing.quick_jit import quick_jit
from seqjax.training.devices import ROWS, make_mesh


def check_rows(strategy: Gradient, cases: Sequence[str] = ("learned", "foreign")) -> float:
    """Checks that the order of rows changes nothing, and that the other rows do not change a row's part of the sum."""
    worst = 0.0
    order = np.array([2, 0, 3, 1])
    for name in cases:
        c = case(name)
        state, memory = c.state, initial_memory(strategy, c.problem, c.params, c.state, row_input(c))
        pairs = zip(estimates(strategy, c), estimates(strategy, with_rows_in_order(c, order)), strict=True)
        for w, (whole, other) in enumerate(pairs):
            want = whole._replace(
                state=row_of(whole.state, order), memory=Memory(whole.memory.shared, row_of(whole.memory.rows, order))
            )
            error = assert_close(other, want, f"{name}, window {w}, rows in another order, ")
            parts = []
            for b in range(B):
                state_b, batch_b = _only_row(b, state, c.windows[w])
                parts.append(call(strategy, c.problem, c.params, state_b, memory, batch_b, jax.random.key(KEY + w)))
            got = jax.tree.map(lambda *a: sum(np.asarray(part) for part in a), *[Sums(e.loss, e.grads) for e in parts])
            error = max(error, assert_close(got, Sums(whole.loss, whole.grads), f"{name}, window {w}, row by row, "))
            worst = max(worst, error)
            state, memory = whole.state, whole.memory
    return worst


def check_padding(strategy: Gradient, cases: Sequence[str] = ("learned", "foreign")) -> float:
    """Checks that what is read after a row's last scored step changes neither loss nor gradient, now and later.

    The row is reset at the start of the second window, which then depends on the first one only through the other rows
    and what all rows share.
    """
    worst, padded = 0.0, 1
    for name in cases:
        c = case(name)
        batch = c.windows[0]._replace(weights=c.windows[0].weights.at[-2:, padded].set(0))
        other = batch._replace(xs=jax.tree.map(lambda a: a.at[-2:, padded].set(a[:2, 0]), batch.xs))
        one, two = (estimates(strategy, c, [each, c.windows[1]]) for each in (batch, other))
        assert_far(two[0].state, one[0].state, f"{name}: the state after other inputs")
        for w, (got, want) in enumerate(zip(two, one, strict=True)):
            sums = Sums(got.loss, got.grads), Sums(want.loss, want.grads)
            worst = max(worst, assert_close(*sums, f"{name}, window {w}, "))
    return worst


def check_unscored(strategy: Gradient, cases: Sequence[str] = ("learned", "foreign")) -> float:
    """Checks that a loss of weight 0 changes nothing, even where it is NaN: its targets are NaN here."""
    worst = 0.0
    for name in ["values" if name == "cell" else name for name in cases]:
        c = case(name)
        memory = initial_memory(strategy, c.problem, c.params, c.state, row_input(c))
        batch = c.windows[0]
        targets = TARGETS[name](batch.xs)
        nan = jnp.where((batch.weights == 0).reshape(batch.weights.shape + (1,) * (targets.ndim - 2)), jnp.nan, targets)
        xs = jax.tree.map(lambda a, targets=targets, nan=nan: nan if a is targets else a, batch.xs)
        one, two = (
            call(strategy, c.problem, c.params, c.state, memory, each, jax.random.key(KEY))
            for each in (batch, batch._replace(xs=xs))
        )
        worst = max(worst, assert_close(two, one, f"{name}, "))
    return worst


def check_initial_state(strategy: Gradient, cases: Sequence[str] = ("learned", "foreign")) -> None:
    """Checks that a learned initial state gets its gradient from rows that are reset, and none from other rows.

    A strategy with `learns_start = False` gives it none from either, and one with `drops_losses = True` may do so.
    """
    for name in cases:
        c, leaf = case(name), LEARNED_STATE[name]
        memory = initial_memory(strategy, c.problem, c.params, c.state, row_input(c))
        for reset in (False, True):
            batch = c.windows[0]._replace(reset=jnp.full(B, reset))
            estimate = call(strategy, c.problem, c.params, c.state, memory, batch, jax.random.key(KEY))
            got = float(np.abs(estimate.grads[leaf]).max())
            learned = reset and strategy.learns_start
            if learned and strategy.drops_losses:
                continue
            if (got < 1e-3) if learned else got:
                rows = "all rows are reset" if reset else "no row is reset"
                raise Failed(f"{name}: the gradient of {leaf}, the initial state, is {got:.1e} while {rows}", got)


def check_reset(strategy: Gradient, cases: Sequence[str] = ("learned", "foreign")) -> float:
    """Checks that a row that is reset depends on nothing that the previous sequence left, memory included."""
    worst = 0.0
    for name in cases:
        c = case(name)
        before, key = estimates(strategy, c, c.windows[:2])[-1], jax.random.key(KEY)
        batch = c.windows[2]._replace(reset=jnp.ones(B, bool))
        others = with_rows_in_order(c._replace(state=before.state), np.arange(B)[::-1]).state
        memory = initial_memory(strategy, c.problem, c.params, others, row_input(c))._replace(
            shared=before.memory.shared
        )
        want = call(strategy, c.problem, c.params, others, memory, batch, key)
        got = call(strategy, c.problem, c.params, before.state, before.memory, batch, key)
        worst = max(worst, assert_close(got, want, f"{name}, all rows reset, "))
    return worst


def check_devices(strategy: Gradient, cases: Sequence[str] = ("learned", "foreign")) -> float:
    """Checks that three windows give the same results with their rows on two devices as on one device."""
    if len(jax.devices()) < 2:
        raise Skipped("there is one device only")
    worst = 0.0
    for name in cases:
        c = case(name)
        state, memory = c.state, initial_memory(strategy, c.problem, c.params, c.state, row_input(c))
        for w, want in enumerate(estimates(strategy, c)):
            got = _on_two_devices(strategy, c.problem, c.params, state, memory, c.windows[w], jax.random.key(KEY + w))
            worst = max(worst, assert_close(got, want, f"{name}, window {w}, "))
            state, memory = got.state, got.memory
    return worst


@functools.partial(quick_jit, static_argnums=(0, 1))
def _on_two_devices(strategy, problem, params, state, memory, batch, key):
    def local(params, state, memory, batch, key):
        e = strategy(problem, params, state, memory, batch, key)
        loss, grads = jax.lax.psum((e.loss, e.grads), ROWS)
        shared = jax.tree.map(lambda a: jax.lax.pmean(a, ROWS).astype(a.dtype), e.memory.shared)
        return Estimate(loss, grads, e.state, e.memory._replace(shared=shared))

    whole, by_row, by_step = PartitionSpec(), PartitionSpec(ROWS), PartitionSpec(None, ROWS)
    of_memory = Memory(whole, by_row)
    return jax.shard_map(
        local,
        mesh=make_mesh(B, 2),
        in_specs=(whole, by_row, of_memory, Batch(by_step, by_step, by_row, by_row), whole),
        out_specs=Estimate(whole, whole, by_row, of_memory),
        check_vma=False,
    )(params, state, memory, batch, key)


def _only_row(b, state, batch):
    """State and batch in which all rows but b have weight 0, and read and start with the data of other rows."""
    mine = np.arange(B) == b
    xs = jax.tree.map(lambda a: a.at[:, ~mine].set(jnp.roll(a, 1, 0)[:, ~mine]), batch.xs)
    state = row_of(state, np.where(mine, np.arange(B), (b + 1) % B))
    return state, batch._replace(xs=xs, weights=jnp.where(mine, batch.weights, 0))
