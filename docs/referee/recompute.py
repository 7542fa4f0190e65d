"""Computes all verdicts of this page again, from losses.csv alone: python recompute.py [FOLDER]."""

import csv
import itertools
import sys
from pathlib import Path

import numpy as np
from scipy import stats

folder = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent
losses: dict[tuple[str, ...], list[list[float]]] = {}
candidates: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
frozen: dict[tuple[str, ...], list[list[float]]] = {}
floors = {}
for row in csv.DictReader((folder / "losses.csv").open(encoding="utf-8")):
    problem, numbers = (row["question"], row["problem"]), [float(row[name]) for name in row if name.startswith("seed ")]
    losses.setdefault((*problem, row["contender"], row["budget"]), []).append(numbers)
    candidates.setdefault((*problem, row["contender"]), []).append((row["rate"], row["clip"]))
    floors[problem] = float(row["floor"])
    if row["variant"] == "frozen" and row["budget"] == "a whole run":
        frozen.setdefault(problem, []).append(numbers)


def tuned(rows):
    """The losses of the seeds, each with the row that is best for the other half of the seeds."""
    table = np.array(rows)
    best = [table[:, 1 - half :: 2].mean(1).argmin() for half in (0, 1)]
    return np.array([table[best[seed % 2], seed] for seed in range(table.shape[1])])


def score(problem, contender, budget):
    """The scores of the seeds."""
    floor, unit = floors[problem], tuned(frozen[problem])
    scores = np.minimum((tuned(losses[*problem, contender, budget]) - floor) / (unit - floor), 1)
    return np.where(unit > floor, scores, 1)


def p_value(d):
    """By changes of sign, of the mean in units of its standard error within the problems."""
    signs = np.array(list(itertools.product([1, -1], repeat=d.size)) if d.size <= 12 else np.zeros((0, d.size)))
    if d.size > 12:
        signs = np.random.default_rng(0).choice([1.0, -1.0], (20_000, d.size))
        signs[0] = 1
    means = (signs.reshape(-1, *d.shape) * d).mean(2)
    spread = np.sqrt(np.maximum((d**2).mean(1) - means**2, 0).sum(1))
    total, small = abs(means.sum(1)), 1e-7 * abs(d).max(initial=1e-300)
    t = np.where(total > small, total / np.where(spread > small, spread, 1e-300), 0)
    return (t >= t[0] * (1 - 1e-9)).mean()


def interval(d):
    """The expanded percentile interval of a bootstrap of the seeds."""
    tasks, seeds = d.shape
    drawn = np.random.default_rng(0).integers(seeds, size=(10_000, tasks, seeds))
    means = np.take_along_axis(d[None], drawn, 2).mean(2)
    var = means.var(0)
    freedom = (seeds - 1) * (var.sum() ** 2 / (var**2).sum() if var.any() else 1)
    outside = 100 * stats.norm.cdf(-stats.t.ppf(0.975, freedom) * np.sqrt(seeds / (seeds - 1)))
    return d.mean(), *np.percentile(means.mean(1), [outside, 100 - outside])


def same(problem, *pair):
    """Whether the losses of all first blocks agree."""
    first = [
        dict(zip(candidates[*problem, name], losses[*problem, name, "the first block"], strict=False)) for name in pair
    ]
    shared = first[0].keys() & first[1].keys()
    return shared and all(np.allclose(first[0][key], first[1][key], 1e-5, 1e-12) for key in shared)


families: dict[tuple[str, ...], list[dict[str, str]]] = {}
for row in csv.DictReader((folder / "verdicts.csv").open(encoding="utf-8")):
    families.setdefault((row["question"], row["family"], row["budget"]), []).append(row)
different = total = 0
for (question, _, budget), rows in families.items():
    problems = [[(question, name) for name in row["problems"].split("; ")] for row in rows]
    pairs = [(row["strategy"], row["other"]) for row in rows]
    d = [
        np.stack([score(p, one, budget) - score(p, other, budget) for p in of])
        for of, (one, other) in zip(problems, pairs, strict=True)
    ]
    found = np.array([p_value(each) for each in d])
    order, holm = found.argsort(), np.empty(len(found))
    holm[order] = np.minimum(np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)), 1)
    for row, of, pair, each, p in zip(rows, problems, pairs, d, holm, strict=True):
        mean, low, high = interval(each)
        word = "better" if mean < 0 else "worse"
        if low > -0.05 and high < 0.05:
            word = "tie"
        elif p > 0.05 or low <= 0 <= high:
            word = "undecided"
        if budget == "a whole run" and all(same(problem, *pair) for problem in of):
            word = "same"
        total += 1
        published = [float(row[name].lstrip("'")) for name in ("score minus that of the other", "low", "high")]
        if word != row["verdict"] or not np.allclose(published, (mean, low, high), atol=2e-6):
            different += 1
            print(f"different: {row}, and here {word}, {mean:.6f} ({low:.6f} to {high:.6f}), p {p:.2g}")
print(f"{total - different} of {total} verdicts are the same")
sys.exit(different > 0)
