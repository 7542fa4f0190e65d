"""Scores of a referee.

The table of a referee: the score of each strategy on each task, 0 at the lowest possible loss and 1 at the loss of a
recurrence that is not trained. It is read from the results of `make referee ARGS="--edition full"`, which trained two
networks with ten seeds and a tuned learning rate for each strategy and task.
"""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import seqjax as sj

results = Path(__file__).parents[1] / "referee"
columns, *rows = csv.reader((results / "scores.csv").read_text("utf-8").splitlines())
scores = np.array([[np.nan if cell == "–" else float(cell.split()[0].strip("'")) for cell in row[1:]] for row in rows])
with sj.plot.style("paper"):
    figure, axis = plt.subplots(figsize=(3.25, 2.8), layout="constrained")
    axis.imshow(scores, cmap="Greys", vmin=0, vmax=2, aspect="auto")
    for (row, column), score in np.ndenumerate(scores):
        text = "" if np.isnan(score) else f"{score:.2f}"
        axis.text(column, row, text, ha="center", va="center", size=4)
    axis.set_xticks(range(len(columns) - 1), columns[1:], rotation=60, ha="right", size=5)
    axis.set_yticks(range(len(rows)), [row[0] for row in rows], size=5)
    figure.savefig("referee.png")
