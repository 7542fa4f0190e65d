"""Computes all verdicts of a page again, from its data/losses.csv alone: python recompute.py [FOLDER]."""

import csv
import itertools
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats

folder = (Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent) / "data"
if missing := [name for name in ("losses.csv", "verdicts.csv") if not (folder / name).is_file()]:
    sys.exit(f"{folder} has no {missing[0]}: give the folder of a report, such as reports/referee")
runs, floors, families = defaultdict(list), {}, defaultdict(list)
for row in csv.DictReader((folder / "losses.csv").open(encoding="utf-8")):
    problem, losses = row["question"] + row["problem"], [float(row[name]) for name in row if name.startswith("seed ")]
    floors[problem] = float(row["floor"])
    for name in {row["contender"], row["variant"]}:  # "frozen" is the variant of several contenders
        runs[problem, name, row["budget"]].append((row["rate"] + row["clip"], losses))
for row in csv.DictReader((folder / "verdicts.csv").open(encoding="utf-8")):
    families[row["question"], row["family"], row["budget"]].append(row)


def tuned(problem, name, budget):
    """Each seed with the rate that is best for the other half of the seeds."""
    table = np.array([losses for _, losses in runs[problem, name, budget]])
    best = [table[:, 1 - half :: 2].mean(1).argmin() for half in (0, 1)]
    return np.array([table[best[seed % 2], seed] for seed in range(table.shape[1])])


def score(problem, name, budget):
    """The scores of the seeds."""
    unit = tuned(problem, "frozen", "a whole run") - floors[problem]
    return np.where(unit > 0, np.minimum((tuned(problem, name, budget) - floors[problem]) / unit, 1), 1)


def same(problem, one, other):
    """Whether the losses of the first blocks agree."""
    one, other = (dict(runs[problem, name, "the first block"]) for name in (one, other))
    return one.keys() & other.keys() and all(np.allclose(one[k], other[k], 1e-5, 1e-12) for k in one.keys() & other)


def p_value(d):
    """By changes of sign, of the mean in units of its standard error within the problems."""
    if d.size > 12:
        signs = np.random.default_rng(0).choice([1.0, -1.0], (20_000, d.size))
        signs[0] = 1
    else:
        signs = np.array(list(itertools.product([1, -1], repeat=d.size)))
    means = (signs.reshape(-1, *d.shape) * d).mean(2)
    spread = np.sqrt(np.maximum((d**2).mean(1) - means**2, 0).sum(1))
    total, small = abs(means.sum(1)), 1e-7 * abs(d).max(initial=1e-300)
    t = np.where(total > small, total / np.where(spread > small, spread, 1e-300), 0)
    return (t >= t[0] * (1 - 1e-9)).mean()


def interval(d):
    """The mean, and the expanded percentiles of a bootstrap of the seeds."""
    num_tasks, num_seeds = d.shape
    drawn = np.random.default_rng(0).integers(num_seeds, size=(10_000, num_tasks, num_seeds))
    means = np.take_along_axis(d[None], drawn, 2).mean(2)
    var = means.var(0)
    freedom = (num_seeds - 1) * (var.sum() ** 2 / (var**2).sum() if var.any() else 1)
    outside = 100 * stats.norm.cdf(-stats.t.ppf(0.975, freedom) * np.sqrt(num_seeds / (num_seeds - 1)))
    return d.mean(), *np.percentile(means.mean(1), [outside, 100 - outside])


wrong = total = 0
for (question, _, budget), rows in families.items():
    problems = [[question + name for name in row["problems"].split("; ")] for row in rows]
    pairs = [(row["strategy"], row["other"]) for row in rows]
    d = [
        np.stack([score(p, one, budget) - score(p, other, budget) for p in of])
        for of, (one, other) in zip(problems, pairs, strict=True)
    ]
    found = np.array([p_value(each) for each in d])
    order, holm = found.argsort(), np.empty(len(found))
    holm[order] = np.minimum(np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)), 1)
    for row, of, pair, p, (mean, low, high) in zip(rows, problems, pairs, holm, map(interval, d), strict=True):
        word = "better" if mean < 0 else "worse"
        word = "undecided" if p > 0.05 or low <= 0 <= high else word
        word = "tie" if low > -0.05 and high < 0.05 else word
        word = "same" if budget == "a whole run" and all(same(problem, *pair) for problem in of) else word
        numbers = [float(row[name].lstrip("'")) for name in ("score minus that of the other", "low", "high")]
        total += 1
        if word != row["verdict"] or not np.allclose(numbers, (mean, low, high), atol=2e-6):
            wrong += 1
            print(f"different: {row}, and here {word}, {mean:.6f} ({low:.6f} to {high:.6f}), p {p:.2g}")
print(f"{total - wrong} of {total} verdicts are the same")
sys.exit(wrong > 0 or not total)
