"""Figures. Every function returns one and writes nothing."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from seqjax.errors import Error


def history(rows: Sequence[dict[str, Any]], title: str = "") -> Figure:
    """Training and held-out perplexity (or loss) by epoch, from the rows of a run."""
    if not rows:
        raise Error("nothing to plot: the run did not come to the end of its first epoch")
    measure = "perplexity" if "train_perplexity" in rows[0] else "loss"
    with matplotlib.style.context("petroff10"):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for part, label in (("train", "training"), ("heldout", "held out")):
            points = [
                (row["epoch"], row[f"{part}_{measure}"]) for row in rows if not math.isnan(row[f"{part}_{measure}"])
            ]
            axes.plot(
                *zip(*points, strict=True) if points else ([], []), label=label, marker="." if len(points) < 40 else ""
            )
        axes.set(xlabel="epoch", ylabel=measure, title=title)
        if measure == "perplexity":
            axes.set_yscale("log")
        axes.legend()
    return figure
