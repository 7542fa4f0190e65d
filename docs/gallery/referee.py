"""Scores of a referee.

The map of a referee: the score of each strategy on each task and network, 0 at the lowest possible loss and 1 at the
loss of a recurrence that is not trained. It is read from the results of `make referee ARGS="--edition full"`, which has
ten seeds and a tuned learning rate for each strategy, task and network.
"""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

file = Path(__file__).parents[1] / "referee" / "score_by_task.csv"
with file.open(encoding="utf-8", newline="") as lines:
    found = {(row["name"], row["x"]): float(row["y"]) for row in csv.DictReader(lines)}
strategies, problems = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
scores = np.array([[found.get((name, problem), np.nan) for problem in problems] for name in strategies])
with plt.style.context("seqjax.report.seqjax"):
    figure, axis = plt.subplots(figsize=(3.25, 2.8), layout="constrained")
    axis.imshow(scores, cmap="Greys", vmin=0, vmax=2, aspect="auto")
    for (row, column), score in np.ndenumerate(scores):
        text = "" if np.isnan(score) else f"{score:.2f}"
        axis.text(column, row, text, ha="center", va="center", size=4)
    axis.set_xticks(range(len(problems)), problems, rotation=60, ha="right", size=5)
    axis.set_yticks(range(len(strategies)), strategies, size=5)
    figure.savefig("referee.png")
