"""Says what is wrong with a gradient: where it is wrong, and the mistake that explains all of it."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.errors import few
from seqjax.testing.estimators.chain import Leaf, Path, Slice, derivatives
from seqjax.testing.estimators.known import Known
from seqjax.testing.estimators.parts import Parts
from seqjax.testing.estimators.readings import readings

FIT = 1e-7
"""The relative error with which a reading has to give the gradient on every part."""
ROUNDING = 1e-5
"""The relative error below which a gradient is right but for rounding in float32."""


class Diagnosis(NamedTuple):
    """What is wrong with a gradient.

    Args:
        evidence: what was seen, each a sentence without its full stop.
        causes: the mistakes that give the wrong gradient, with the number of parts on which they do, and the number of
            all parts. A cause is stated if there is one.
        part: the fewest steps on which it is wrong.
        rows: the rows of this part.
    """

    evidence: Sequence[str]
    causes: Mapping[str, tuple[int, int]]
    part: Slice
    rows: Sequence[int]

    def __str__(self) -> str:
        seen = "; ".join(self.evidence)
        text = f"What is wrong: {seen}."
        if len(self.causes) == 1:
            ((cause, (said, calls)),) = self.causes.items()
            among = f"all {calls}" if said == calls else f"{said} of {calls}"
            text += f"\nThe cause: {cause}. This gives the same numbers in {among} calls on parts of the window."
        elif self.causes:
            text += f"\nNo cause is stated, since several give the same numbers: {'; or '.join(self.causes)}."
        return text


def diagnose(parts: Parts, known: Callable[[Sequence[Leaf]], Known]) -> Diagnosis | None:
    """What is wrong on the parts of a path; None: every part is right.

    Args:
        parts: the gradients.
        known: the wrong leaves -> what readings need.
    """
    wrong = {where: parts.is_wrong(*parts.at(*where)) for where in parts.all()}
    if not any(each.any() for each in wrong.values()):
        return None
    failing = [where for where in wrong if wrong[where].any()]
    part, rows = min(failing, key=lambda where: (where[0].last - where[0].first, len(where[1]), where[0].first))
    if not any(parts.is_wrong(*parts.at(*where), ROUNDING).any() for where in wrong):
        text = "right to about 6 digits. Rounding in float32, finite differences or a small added term do this"
        if all((parts.at(*where)[0] == parts.at(*where)[0].astype(np.float32)).all() for where in wrong):
            text = "right but for rounding: the gradient is in float32"
        return Diagnosis([text], {}, part, rows)
    leaves = [leaf for leaf in parts.leaves if any(each[leaf.at].any() for each in wrong.values())]
    rows_seen = list(_of_rows(parts, wrong))
    when = _of_steps_and_lags(parts, leaves, wrong, with_lags=not rows_seen)
    evidence = [*_not_finite(parts, wrong), *_of_leaves(parts, leaves, wrong), *when, *rows_seen]
    calls = len(wrong)
    # Two readings of one mistake have one text.
    causes = dict.fromkeys(_of_the_gradient(parts, leaves), (calls, calls)) | _of_the_chain(parts, known(leaves))
    return Diagnosis(evidence, causes, part, rows)


def _not_finite(parts, wrong):
    if not all(np.isfinite(parts.at(*where)[0]).all() for where in wrong):
        yield "not finite (NaN or infinite) on some parts"


def _of_the_chain(parts: Parts, known: Known) -> dict[str, tuple[int, int]]:
    """The readings that give the gradient of the estimator on every part about which they say something.

    A reading that gives the exact gradient is none: its mistake makes no difference here. If none gives all of a
    gradient, those of its wrong leaves alone are looked for.
    """
    wheres = parts.all()
    wrong = np.zeros(known.chain.I.shape[-1], bool)
    for leaf in known.wrong:
        wrong[leaf.at] = True
    exact = {where: known.chain.of_rows(where[1]).gradient(where[0]) for where in wheres}
    if not known.is_exact and not any(parts.is_wrong(parts.at(*where)[0], exact[where], FIT).any() for where in wheres):
        return {"it is the full gradient: nothing is detached": (len(wheres), len(wheres))}
    found: dict[str, tuple[int, int]] = {}
    of_wrong: dict[str, tuple[int, int]] = {}
    for reading in readings(known):
        said, differs, is_whole = 0, False, True
        for where in wheres:
            predicted = reading.gradient(*where)
            if np.isnan(predicted).any():
                continue
            misses = parts.is_wrong(parts.at(*where)[0], predicted, FIT)
            if misses[wrong].any():
                break
            said, is_whole = said + 1, is_whole and not misses.any()
            differs = differs or bool(parts.is_wrong(predicted, exact[where], FIT)[wrong].any())
        else:
            if differs and 2 * said >= len(wheres):
                (found if is_whole else of_wrong)[reading.text] = said, len(wheres)
    if found or not of_wrong:
        return found
    names = few(_groups(known.wrong, [leaf for leaf in parts.leaves if leaf not in known.wrong]))
    return {f"for {names}: {text}": count for text, count in of_wrong.items()}


def _of_leaves(parts, leaves, wrong):
    """Which entries of the gradient are wrong."""
    right = [leaf for leaf in parts.leaves if leaf not in leaves]
    for leaf in leaves:
        where = np.any([each[leaf.at] for each in wrong.values()], 0).reshape(leaf.shape)
        place = _place(where)
        if place:
            yield f"wrong in {leaf.name} only at {place}"
    if right:
        names = _groups(leaves, right)
        yield f"only {few(names)} {'is' if len(names) == 1 else 'are'} wrong"


def _place(where):
    """The row, the column or the entry to which the wrong numbers of an array are confined; "" if there is none."""
    if where.ndim == 0 or where.all() or where.size < 2:
        return ""
    if where.sum() == 1:
        return "[" + ", ".join(str(i[0]) for i in np.nonzero(where)) + "]"
    if where.ndim == 2:
        for axis, form in ((1, "[{}, :]"), (0, "[:, {}]")):
            lines = np.flatnonzero(where.any(axis))
            if len(lines) == 1:
                return form.format(lines[0])
    return ""


def _of_steps_and_lags(parts, leaves, wrong, with_lags):
    """The first wrong step and lag; of each leaf apart, if they differ."""
    leaves_of: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        said = _of_steps(parts, leaf, wrong)
        # Lags say nothing new where a step or a row explains what is wrong.
        if with_lags and ", at which" not in said and (lags := _of_lags(parts, leaf)):
            said = f"{said}; {lags}"
        leaves_of.setdefault(said, []).append(leaf)
    if len(leaves_of) == 1:
        return list(leaves_of)
    return [
        f"{few(_groups(some, [a for a in parts.leaves if a not in some]))}: {said}" for said, some in leaves_of.items()
    ]


def _of_steps(parts, leaf, wrong):
    """The first wrong step of a leaf, and what is special about it."""
    num_steps = parts.path.num_steps
    wrong = {where: each[leaf.at] for where, each in wrong.items()}
    n = next((n for n in range(1, num_steps + 1) if wrong[Slice(0, n), parts.rows].any()), None)
    if n is None:
        return "right from the first step of the window on, and wrong on windows that begin later"
    text = f"right for {_count(n - 1, 'step')}, wrong from step {n}" if n > 1 else "wrong from the first step"
    if n > 1 and not any(parts.at(Slice(0, m), parts.rows)[1][leaf.at].any() for m in range(1, n)):
        text = f"wrong from step {n}, the first one with a gradient"  # zeros are no evidence of being right
    # What is special about the step explains the mistake only if all is right that begins after it.
    later = any(each.any() for (part, rows), each in wrong.items() if rows == parts.rows and part.first >= n)
    special = "" if later else _special(parts.path, n - 1)
    return text + (f", at which {special}" if special else "")


def _special(path: Path, t: int) -> str:
    """What is true of step t, and of no step before it."""
    facts = _facts(path)
    return next((text for text, true in facts.items() if t and true[t] and not any(true[:t])), "")


def _facts(path: Path) -> dict[str, list[bool]]:
    """For each step of a path: properties that explain a mistake."""

    def zero(tree, t):
        leaves = [np.asarray(a[t]) for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
        # In any of the rows.
        return bool(leaves) and bool(
            np.any(np.all([np.abs(a).reshape(len(a), -1).max(-1, initial=0) == 0 for a in leaves], 0))
        )

    chain = derivatives(path)(path.before, path.xs)
    return {
        "nothing of the state before is kept, as at a reset": list(
            (np.abs(chain.J).max((-1, -2), initial=0) == 0).any(0)
        ),
        "the state that enters is zero": [t > 0 and zero(path.states, t) for t in range(path.num_steps)],
        "the loss depends on nothing, as in a padded step": list(
            ((np.abs(chain.a).max(-1, initial=0) == 0) & (np.abs(chain.d).max(-1, initial=0) == 0)).any(0)
        ),
        "all inputs are zero": [zero(path.xs, t) for t in range(path.num_steps)],
    }


def _of_lags(parts, leaf):
    """The first wrong lag of a leaf, if lag 0 is right; else nothing."""
    pairs = [parts.lag(lag) for lag in range(parts.path.num_steps)]
    wrong = [bool(parts.is_wrong(*pair)[leaf.at].any()) for pair in pairs]
    if not any(wrong) or wrong[0]:
        return ""
    first = wrong.index(True)
    if not any(right[leaf.at].any() for _, right in pairs[:first]):
        return ""  # zeros are no evidence of being right
    right = {1: " 0", 2: "s 0 and 1"}.get(first, f"s 0 to {first - 1}")
    return f"right at lag{right}, wrong from lag {first}"


def _of_rows(parts, wrong):
    """Which rows are wrong alone, and whether they are wrong together only."""
    if len(parts.rows) == 1:
        return
    alone = [b for b in parts.rows if any(wrong[w].any() for w in wrong if w[1] == (b,))]
    if not alone:
        yield "every row alone is right, and several rows together are wrong"
    elif len(alone) < len(parts.rows):
        rows = f"row{'s' * (len(alone) > 1)} {few(map(str, alone))}"
        # A scale that depends on the number of steps shows on the whole window only.
        factor = _factor(parts, [(Slice(0, parts.path.num_steps), (b,)) for b in alone])
        text = f"wrong in {rows}, right in the others" if factor is None else f"{_as_factor(factor)} in {rows}"
        padded = [b for b in parts.rows if _is_padded(parts, b)]
        are = "these rows are" if len(alone) > 1 else "this row is"
        yield text + (f", and {are} padded" if padded == alone else "")


def _is_padded(parts, b):
    """Whether the losses of the last steps of row b do not depend on anything."""
    last = parts.path.num_steps
    gradients = [parts.at(Slice(0, n), (b,))[1] for n in (last - 1, last)]
    return bool((gradients[0] == gradients[1]).all())


def _of_the_gradient(parts, leaves):
    """Readings of the wrong entries of the gradient alone."""
    names, scale = _names(leaves), parts.scale
    pairs = [parts.at(*where) for where in parts.all()]

    def fits(change):
        return all(
            (np.abs(got[leaf.at] - change(wanted, leaf)) <= FIT * scale[leaf.at]).all()
            for got, wanted in pairs
            for leaf in leaves
        )

    square = all(len(leaf.shape) == 2 and leaf.shape[0] == leaf.shape[1] for leaf in leaves)
    if square and fits(lambda wanted, leaf: wanted[leaf.at].reshape(leaf.shape).T.ravel()):
        yield f"the gradient of {names} is transposed"
    factor = _factor(parts, parts.all(), leaves)
    if factor is not None:
        of = "the gradient" if len(leaves) == len(parts.leaves) else f"the gradient of {names}"
        yield f"{of} is {_as_factor(factor)}"
    if len(leaves) == 2 and leaves[0].shape == leaves[1].shape:
        other = {leaves[0].name: leaves[1], leaves[1].name: leaves[0]}
        if fits(lambda wanted, leaf: wanted[other[leaf.name].at]):
            yield f"the gradients of {names} are exchanged"


def _factor(parts, wheres, leaves=None):
    """c, if the wrong leaves are c times the right ones on all parts; else None."""
    leaves = parts.leaves if leaves is None else leaves
    at = np.concatenate([np.arange(leaf.at.start, leaf.at.stop) for leaf in leaves])
    got, wanted = (np.concatenate([parts.at(*where)[i][at] for where in wheres]) for i in (0, 1))
    norm = wanted @ wanted
    factor = float(got @ wanted / norm) if norm else 1.0
    good = np.abs(got - factor * wanted) <= FIT * np.tile(parts.scale[at], len(wheres))
    return factor if good.all() and abs(factor - 1) > FIT else None


def _as_factor(factor: float) -> str:
    if abs(factor) < FIT:
        return "zero"
    if abs(factor + 1) < FIT:
        return "right but for its sign"
    return f"{factor:.6g} times the right one"


def _groups(leaves, others):
    """The names of leaves; one name for a part of the tree, such as a layer, all of whose leaves are among them."""
    names = []
    for leaf in leaves:
        parts = re.findall(r"\[.*?\]|\.\w+", leaf.name)
        inside = ["".join(parts[:n]) for n in range(1, len(parts) + 1)]
        names.append(next(name for name in inside if not any(other.name.startswith(name) for other in others)))
    return list(dict.fromkeys(names))


def _names(leaves):
    return few(leaf.name or "the parameters" for leaf in leaves)


def _count(n, noun):
    return f"{n} {noun}{'s' * (n != 1)}"
