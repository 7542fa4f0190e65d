"""Checks of a sampler: its plans fit the documents, and depend on the seed alone."""

from collections.abc import Sequence

import numpy as np

from seqjax.analysis.sampler_coverage import coverage
from seqjax.data.sampler import Plan, Sampler, check_fields, draw_plan
from seqjax.data.sampler import check_plan as check_inside
from seqjax.errors import Error, is_whole
from seqjax.plugin.author import mistake_of
from seqjax.plugin.base import values_of
from seqjax.testing.compare import Failed, Skipped
from seqjax.testing.line import Check, Found

SIZES = ({"batch_size": 3, "num_steps": 5}, {"batch_size": 2, "num_steps": 4}, {"batch_size": 1, "num_steps": 7})
"""Sizes of batches with which a sampler is checked."""
EPOCHS = 3
BOUNDS = {
    "one document": [0, 601],
    "documents": [0, 40, 47, 47, 131, 140, 141, 240, 333, 350, 420],
    "short documents": [0, *(3 * n for n in range(1, 41))],
}
"""The bounds of documents, an empty one among them."""
TOO_SHORT = ([0, 0], [0, 1], [0, 1, 1, 2])
"""Bounds of documents that are shorter than a window."""


def checks(sampler: Sampler) -> Sequence[Check]:
    """The checks of a sampler; the first one is that it plans windows inside of documents."""
    return CHECKS


def check_plan(sampler: Sampler) -> Found:
    """Checks that plans have the shapes of a plan, and windows that cross no bound of documents."""
    used = [f"{name}: {len(plans[0].starts)} batches" for name, _, plans in _plans(sampler)]
    return Found(note=", ".join(used))


def check_seed(sampler: Sampler) -> Found:
    """Checks that the plan is a function of the generator alone."""
    before = np.random.get_state()
    try:
        for name, bounds, plans in _plans(sampler):
            for epoch, plan in enumerate(plans):
                np.random.seed(epoch)  # a plan must not depend on it
                if not _equal(draw_plan(sampler, bounds, 0, epoch), plan):
                    raise Failed(f"{name}: two plans for the same seed and epoch differ")
    finally:
        np.random.set_state(before)
    return Found()


def check_continues(sampler: Sampler) -> Found:
    """Checks that a row that is not reset begins where the same row of the previous batch ended."""
    num_continued = 0
    for each in _sizes(sampler):
        for name, _, plans in _plans(each):
            for plan in plans:
                num_continued += _check_continues(plan, each.num_steps, name)
    return Found(note=f"{num_continued:,} rows continue" if num_continued else "every window is reset")


def check_sizes(sampler: Sampler) -> Found:
    """Checks other sizes of batches."""
    sizes = _sizes(sampler)[1:]
    if not sizes:
        raise Skipped("it takes no other sizes")
    return Found(note=", ".join(f"{each.batch_size} x {each.num_steps}" for each in sizes))


def check_batches(sampler: Sampler) -> Found:
    """Checks that every epoch has the same number of batches."""
    for name, _, plans in _plans(sampler):
        counts = [len(plan.starts) for plan in plans]
        if len(set(counts)) > 1:
            raise Failed(f"{name}: the first epochs have {', '.join(map(str, counts))} batches")
    return Found()


def check_visits(sampler: Sampler) -> Found:
    """Checks that targets are trained, at most as often in an epoch as the sampler claims."""
    notes = []
    if not (sampler.most_visits is None or is_whole(sampler.most_visits)):
        raise Failed(f"most_visits = {sampler.most_visits!r}; it must be a whole number, or None for no limit")
    for each in _sizes(sampler)[:2]:
        for name, bounds, _ in _plans(each):
            coverages = [coverage(each, bounds, epochs=1, seed=seed) for seed in range(EPOCHS)]
            most = max(int(c.counts.max()) for c in coverages)
            if not most:
                raise Failed(f"{name}: no target is trained")
            if each.most_visits is not None and most > each.most_visits:
                raise Failed(f"{name}: an epoch trains a target {most} times, and most_visits = {each.most_visits}")
            share = np.mean([(c.counts > 0).mean() for c in coverages])
            if each is sampler:
                notes.append(f"{name}: {share:.0%} of the targets, up to {most} times")
    return Found(note="; ".join(notes))


def check_too_short(sampler: Sampler) -> Found:
    """Checks that documents which are too short for a batch are an `Error`."""
    refused = 0
    for bounds in TOO_SHORT:
        try:
            draw_plan(sampler, np.array(bounds), 0, 0)
        except Error:
            refused += 1
        except Exception as why:
            raise Failed(f"documents of {np.diff(bounds).tolist()} targets: {mistake_of(sampler, why) or why}") from why
    return Found(note=f"{refused} of {len(TOO_SHORT)} refused")


CHECKS = (
    Check(
        "plan", check_plan,
        "plan(bounds, rng) returns seqjax.Plan(starts, scored, reset); seqjax.data.cut_windows cuts documents into "
        "windows",
    ),
    Check("same seed, same plan", check_seed, "draw from the rng that plan is given, and from nothing else"),
    Check("other sizes", check_sizes, "read self.batch_size and self.num_steps in plan"),
    Check(
        "rows continue", check_continues,
        "a state is carried into a row that is not reset: let it start at starts + num_steps of the previous batch, if "
        "that window was full, and reset all other rows",
    ),
    Check("epochs have equal length", check_batches, "otherwise JAX compiles again: plan equally many batches"),
    Check(
        "visits of a target", check_visits,
        "correct the plan, or the class attribute most_visits, the largest number of times that an epoch trains a "
        "target",
    ),
    Check("documents that are too short", check_too_short, "raise seqjax.Error, which says what is too short"),
)  # fmt: skip


def _plans(sampler: Sampler) -> list[tuple[str, np.ndarray, list[Plan]]]:
    """The plans of the first epochs on all bounds that the sampler takes."""
    check_fields(sampler)
    plans_of, refused = [], {}
    for name, bounds in BOUNDS.items():
        # A sampler with large windows needs a longer stream.
        factor = -(-sampler.batch_size * sampler.num_steps // 15)
        scaled = np.array(bounds, np.int64) * factor
        scaled.flags.writeable = False
        try:
            plans = [sampler.plan(scaled, np.random.default_rng((0, epoch))) for epoch in range(EPOCHS)]
        except Error as why:
            refused[name] = str(why)
        else:
            plans_of.append((name, scaled, [_inside(plan, sampler, scaled) for plan in plans]))
    if not plans_of:
        raise Error("it takes none of the streams: " + "; ".join(f"{name}: {why}" for name, why in refused.items()))
    return plans_of


def _inside(plan: Plan, sampler: Sampler, bounds: np.ndarray) -> Plan:
    """The plan, checked; a wrong plan is a failure, and not a refusal of the stream."""
    try:
        return check_inside(plan, sampler, bounds)
    except Error as fault:
        raise Failed(str(fault)) from fault


def _sizes(sampler: Sampler) -> list[Sampler]:
    """The sampler, and the sampler with other sizes, as far as it takes them."""
    samplers = [sampler]
    for size in SIZES:
        values = values_of(sampler)
        values |= {name: value for name, value in size.items() if name in values}
        try:
            other = type(sampler)(**values)
            if other != sampler and _plans(other):
                samplers.append(other)
        except Failed:
            raise
        except Error:
            continue  # a field, or `plan`, forbids this size
    return samplers


def _check_continues(plan: Plan, num_steps: int, name: str) -> int:
    """The number of rows that continue."""
    if len(plan.reset) and not plan.reset[0].all():
        rows = np.nonzero(~plan.reset[0] & (plan.scored[0, :, 0] < plan.scored[0, :, 1]))[0]
        if len(rows):
            raise Failed(f"{name}: row {rows[0]} of the first batch of an epoch is not reset")
    scored = plan.scored[1:, :, 0] < plan.scored[1:, :, 1]
    continued = ~plan.reset[1:] & scored
    follows = (plan.starts[1:] == plan.starts[:-1] + num_steps) & (plan.scored[:-1, :, 1] == num_steps)
    wrong = np.argwhere(continued & ~follows)
    if len(wrong):
        n, b = wrong[0]
        first, last = plan.starts[n, b], plan.starts[n, b] + plan.scored[n, b, 1]
        raise Failed(
            f"{name}: row {b} of batch {n + 1} is not reset and starts at {plan.starts[n + 1, b]}, but its window "
            f"before has the steps {first} to {last}"
        )
    return int(continued.sum())


def _equal(one: Plan, other: Plan) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
