"""The labels of axes by metric."""

from collections.abc import Iterable
from typing import Any

from seqjax.columns import BY_NAME, label_of

DURING = "mean during the epoch"
"""The words for a metric of the training part, which is averaged while the model changes."""


def are_on_tokens(runs: Iterable[Any]) -> bool | None:
    """Whether the targets of runs are tokens; None: only in some runs, so that the losses have two units."""
    # Only runs on tokens have a perplexity; the loss of the others is a squared error.
    kinds = {"train_perplexity" in run.metrics[0] for run in runs if run.metrics} or {True}
    return kinds.pop() if len(kinds) == 1 else None


def axis_label(metric: str, tokens: bool | None) -> str:
    """The label of a metric's axis, with its unit.

    Args:
        metric: the name of the column, such as `"train_loss"`.
        tokens: as `are_on_tokens` returns it.
    """
    words = label_of(metric, tokens)
    return f"{words},\n{DURING}" if metric in BY_NAME and BY_NAME[metric].during else words
