"""What a wrong gradient may be: each reading predicts, for any steps of a scan, the gradient that a mistake gives.

A reading is compared with what an estimator returns on every stretch of a path. The equations are those of `Chain`: M_t
is the influence, the derivative of the state by the parameters, J_t and I_t are the derivatives of the new state by the
state and by the parameters, and the loss of step t adds a_t M_{t-1} + d_t.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seqjax.errors import few
from seqjax.testing.estimators.chain import Slice
from seqjax.testing.estimators.known import After, Known, by_new_state, flat_states, resting_inputs
from seqjax.testing.estimators.step_readings import step_readings

NOT_BACK = "the gradient does not go back at all: the state that enters each step is a constant"
BEFORE = "the loss meets the influence of the step before: it reads the influence before it is updated"
"""The text of two readings, which differ where the state is reset."""


class Reading(NamedTuple):
    """A mistake and the gradient that it gives.

    Args:
        text: what is wrong, as a sentence without its full stop.
        gradient: (steps, rows) -> the gradient, a vector; NaN: it says nothing about these steps.
    """

    text: str
    gradient: Callable[[Slice, Sequence[int]], np.ndarray]


def readings(known: Known) -> Iterator[Reading]:
    """All readings, in no order."""
    after = by_new_state(known.chain)
    for text, chain in step_readings(known):
        yield Reading(text, functools.partial(_of_rows, chain))
        if after is not None:
            # Where the loss reads the new state, the mistake is also made on the edge into this state.
            a = np.einsum("bns,bnsr->bnr", after.q, chain.J)
            d = np.einsum("bns,bnsp->bnp", after.q, chain.I) + after.direct
            yield Reading(text, functools.partial(_of_rows, chain._replace(a=a, d=d)))
    yield from _of_the_window(known)
    yield from _of_the_loss(known, after)
    if known.path.scan.num_rows > 1:
        yield from _of_the_rows(known, after)


def _of_rows(chain, part, rows):
    return chain.of_rows(rows).gradient(part)


def _of_the_window(known: Known) -> Iterator[Reading]:
    """Readings that cut the path, or leave out steps or losses."""
    chain, num_steps = known.chain, known.path.num_steps

    def true(part, rows):
        return chain.of_rows(rows).gradient(part)

    def each_loss(part, rows, first):
        """The sum over the losses t of the gradient that goes back to step first(t)."""
        return sum(
            (true(Slice(first(t), t + 1), rows) - true(Slice(first(t), t), rows) for t in range(*part)),
            np.zeros(chain.I.shape[-1]),
        )

    yield Reading(NOT_BACK, lambda part, rows: each_loss(part, rows, lambda t: t))
    yield Reading(
        "the state is detached before the last step",
        lambda part, rows: each_loss(part, rows, lambda t: t if t == part.last - 1 else part.first),
    )
    for steps in range(2, num_steps):

        def of_last(part, rows, steps=steps):
            return each_loss(part, rows, lambda t: max(part.first, t - steps + 1))

        yield Reading(f"the gradient of each loss goes back {steps} steps, and no further", of_last)
    for cuts in _all_cuts(num_steps):

        def of_segments(part, rows, cuts=cuts):
            starts = [part.first, *(part.first + cut for cut in cuts)]
            return each_loss(part, rows, lambda t: max(start for start in starts if start <= t))

        before = f"step{'s' * (len(cuts) > 1)} {few(str(cut + 1) for cut in cuts)}"
        text = f"the state is detached before {before}, counted from the start of a window"
        yield Reading(f"{text}, or the influence is zero there", of_segments)
    shorter = lambda part: Slice(part.first, max(part.first, part.last - 1))
    yield Reading("the loss of the last step is left out", lambda part, rows: true(shorter(part), rows))
    yield Reading(
        "only the loss of the last step is differentiated",
        lambda part, rows: true(part, rows) - true(shorter(part), rows),
    )
    yield Reading(
        "the first step is left out", lambda part, rows: true(Slice(min(part.first + 1, part.last), part.last), rows)
    )
    yield Reading(
        "the parameters are constants in the last step",
        lambda part, rows: true(part, rows) - chain.of_rows(rows).d[:, part.last - 1].sum(0),
    )
    yield Reading(
        "it is the mean over the steps, not the sum", lambda part, rows: true(part, rows) / (part.last - part.first)
    )
    is_zero = np.abs(flat_states(known.path)[:, :-1]).max(-1, initial=0) == 0
    if is_zero[:, 1:].any():
        stopped = chain._replace(J=np.where(is_zero[..., None, None], 0, chain.J))
        yield Reading("no gradient passes a state that is zero", functools.partial(_of_rows, stopped))
    resting = resting_inputs(known.path)
    if resting[:, 1:].any() and not resting.all():
        stopped = chain._replace(J=np.where(resting[..., None, None], 0, chain.J))
        yield Reading("no gradient passes a step whose inputs are zero", functools.partial(_of_rows, stopped))


def _all_cuts(num_steps: int) -> Iterator[tuple[int, ...]]:
    """Steps before which a state may be detached: from one of them on, after every so many; but not before all."""
    seen = set()
    for first in range(1, num_steps):
        for every in range(1, num_steps):
            cuts = tuple(range(first, num_steps, every))
            if cuts not in seen and len(cuts) < num_steps - 1:
                seen.add(cuts)
                yield cuts


def _of_the_loss(known: Known, after: After | None) -> Iterator[Reading]:
    """Readings of how the loss meets the influence."""
    J, I, a, d = known.chain

    def walk(part, rows, meets):
        M, grads = np.zeros_like(I[list(rows), 0]), np.zeros(I.shape[-1])
        for t in range(*part):
            old, M = M, J[list(rows), t] @ M + I[list(rows), t]
            grads = grads + meets(list(rows), t, old, M)
        return grads

    dot = lambda q, M: np.einsum("bs,bsp->p", q, M)
    yield Reading(
        "the influence is a step ahead of the loss: it is updated before the loss reads it, and again",
        lambda part, rows: walk(part, rows, lambda b, t, old, new: dot(a[b, t], new) + d[b, t].sum(0)),
    )
    if after is None:
        return
    newer, apart = after
    yield Reading(
        BEFORE, lambda part, rows: walk(part, rows, lambda b, t, old, new: dot(newer[b, t], old) + apart[b, t].sum(0))
    )
    zero = np.abs(J).max((-1, -2)) == 0
    if zero.any():
        kept = np.where(zero, 0, 1)[..., None]
        yield Reading(
            BEFORE,
            lambda part, rows: walk(
                part, rows, lambda b, t, old, new: dot(kept[b, t] * newer[b, t], old) + apart[b, t].sum(0)
            ),
        )
    yield Reading(
        "the effect of the parameters on the state in the step of the loss itself is missing",
        lambda part, rows: walk(part, rows, lambda b, t, old, new: dot(a[b, t], old) + apart[b, t].sum(0)),
    )
    yield Reading(
        "the direct effect of the parameters on the loss is missing",
        lambda part, rows: walk(part, rows, lambda b, t, old, new: dot(newer[b, t], new)),
    )


def _of_the_rows(known: Known, after: After | None) -> Iterator[Reading]:
    """Readings that mix rows up. They say nothing about a row alone."""
    chain = known.chain

    def several(predict):
        return lambda part, rows: predict(part, list(rows)) if len(rows) > 1 else np.full(chain.I.shape[-1], np.nan)

    yield Reading(
        "it is the mean over the rows, not the sum",
        several(lambda part, rows: chain.of_rows(rows).gradient(part) / len(rows)),
    )
    for name, index in (("first", 0), ("last", -1)):
        yield Reading(
            f"only the {name} row is differentiated",
            several(lambda part, rows, index=index: chain.of_rows([rows[index]]).gradient(part)),
        )
    for by, name in ((1, "before"), (-1, "after")):

        def mixed(part, rows, by=by, read=None):
            M, grads = np.zeros_like(chain.I[rows, 0]), np.zeros(chain.I.shape[-1])
            for t in range(*part):
                old, M = M, chain.J[rows, t] @ M + chain.I[rows, t]
                q, direct, influence = (chain.a, chain.d, old) if read is None else (*read, M)
                grads += np.einsum("bs,bsp->p", q[rows, t], np.roll(influence, by, 0)) + direct[rows, t].sum(0)
            return grads

        for read in (None, after) if after is not None else (None,):
            text = f"the loss of a row meets the influence of the row {name}"
            yield Reading(text, several(functools.partial(mixed, by=by, read=read)))

    def mean(part, rows):
        J, I = (np.broadcast_to(each[rows].mean(0), each[rows].shape) for each in (chain.J, chain.I))
        return chain.of_rows(rows)._replace(J=J, I=I).gradient(part)

    yield Reading("one influence is kept for all rows, their mean", several(mean))
