"""The labels of axes by metric."""

from collections.abc import Iterable
from typing import Any

LABELS = {
    "epoch": "epoch",
    "update": "updates",
    "tokens": "tokens",
    "seconds": "time (s)",
    "train_perplexity": "training perplexity",
    "heldout_perplexity": "held-out perplexity",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens per second",
}
"""The labels of axes by metric."""
DURING = "mean during the epoch"
"""The words for a metric of the training part, which is averaged while the model changes."""
LOSSES = {True: "loss (nats)", False: "mean squared error", None: "loss"}
"""The name of a loss, with its unit, by the result of `are_on_tokens`."""


def are_on_tokens(runs: Iterable[Any]) -> bool | None:
    """Whether the targets of runs are tokens; None: only those of some runs, so that the losses have two units."""
    # Only runs on tokens have a perplexity; the loss of the others is a squared error.
    kinds = {"train_perplexity" in run.metrics[0] for run in runs if run.metrics} or {True}
    return kinds.pop() if len(kinds) == 1 else None


def axis_label(metric: str, tokens: bool | None) -> str:
    """The label of a metric's axis, with its unit.

    Args:
        metric: the name of the column, such as `"train_loss"`.
        tokens: as `are_on_tokens` returns it.
    """
    part = "training" if metric.startswith("train_") else "held-out"
    if metric in ("train_loss", "heldout_loss"):
        words = f"{part} {LOSSES[tokens]}"
    else:
        words = LABELS.get(metric, metric.replace("_", " "))
        words = words if tokens else words.replace("tokens", "targets")
    return f"{words},\n{DURING}" if metric in ("train_loss", "train_perplexity") else words
