"""The columns of the metrics of a run: one table, which training, the printed lines, comparisons and figures read.

A new column is one entry of `COLUMNS`, which computes it from an `Epoch`. It is then in `metrics.jsonl`, in the pages
and trackers, and a metric that `compare` and the plots take; with a `title` it is printed after each epoch too. The
metrics of an experiment and of a gradient strategy are columns after these.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple


class Epoch(NamedTuple):
    """What is known at the end of an epoch, from which the columns are computed.

    Args:
        epoch: the number of epochs that are trained, from 1.
        update: the number of updates that are made.
        tokens: the targets that were scored since update 0.
        seconds: the time since update 0, without compiling and evaluating.
        compile_seconds: the time that compiling took in this epoch.
        epoch_tokens: the targets that were scored in this epoch.
        epoch_seconds: the time that this epoch took, without compiling.
        train_loss: the mean loss of the training part during the epoch, in nats for tokens; NaN: nothing was scored.
        grad_norm: the mean norm of the gradient before clipping; NaN for a count-based model.
        learning_rate: the learning rate of the last update; NaN: the optimizer has none.
        heldout: the result of `evaluate` for the held-out part; empty: it was not evaluated after this epoch; None: it
            never is.
        has_perplexity: whether the loss is the cross-entropy of tokens.
    """

    epoch: int
    update: int
    tokens: int
    seconds: float
    compile_seconds: float
    epoch_tokens: int
    epoch_seconds: float
    train_loss: float
    grad_norm: float
    learning_rate: float
    heldout: Mapping[str, float] | None = None
    has_perplexity: bool = False

    def of_heldout(self, name: str) -> float | None:
        """A value of the held-out part; NaN: it was not evaluated after this epoch; None: it never is.

        A column that some runs lack needs a flag too, as `has_perplexity` is for the perplexity.
        """
        return None if self.heldout is None else self.heldout.get(name, math.nan)


class Column(NamedTuple):
    """A column of the metrics.

    Args:
        name: its name in the rows.
        compute: its value after an epoch; None: the run has no such column.
        label: its label in figures and pages, with its unit, where losses are of tokens (True), of values (False), or
            of both (None).
        title: its heading in the lines that are printed after each epoch; "": it is not printed.
        form: how it is printed there.
        during: whether it is a mean during the epoch, in which the model changes.
        is_time: whether it measures time, so that it differs between equal runs.
        best: whether the lowest or the highest value is the best; None: neither is.
    """

    name: str
    compute: Callable[[Epoch], float | None]
    label: Callable[[bool | None], str]
    title: str = ""
    form: str = ""
    during: bool = False
    is_time: bool = False
    best: Literal["lowest", "highest"] | None = None


def perplexity(loss: float) -> float:
    """exp(loss), the perplexity of a mean cross-entropy in nats.

    It is 1 if every token was certain, and |V| if all tokens were equally likely. Above 700 nats it is ∞.
    """
    return math.inf if loss > 700 else math.exp(loss)


def _perplexity(epoch: Epoch, loss: float | None) -> float | None:
    return perplexity(loss) if epoch.has_perplexity and loss is not None else None


def _loss(tokens: bool | None) -> str:
    return {True: "loss (nats)", False: "mean squared error", None: "loss"}[tokens]


def _targets(tokens: bool | None) -> str:
    return "tokens" if tokens else "targets"


COLUMNS = (
    Column("epoch", lambda e: e.epoch, lambda _: "epoch", "epoch", "5"),
    Column("update", lambda e: e.update, lambda _: "updates"),
    Column("tokens", lambda e: e.tokens, _targets),
    Column("seconds", lambda e: e.seconds, lambda _: "time (s)", is_time=True, best="lowest"),
    Column(
        "train_loss",
        lambda e: e.train_loss,
        lambda t: f"training {_loss(t)}",
        "loss",
        "#8.4g",
        during=True,
        best="lowest",
    ),
    Column(
        "heldout_loss",
        lambda e: e.of_heldout("loss"),
        lambda t: f"held-out {_loss(t)}",
        "held-out loss",
        "#.4g",
        best="lowest",
    ),
    Column(
        "train_perplexity",
        lambda e: _perplexity(e, e.train_loss if e.heldout is not None else None),
        lambda _: "training perplexity",
        "train ppl",
        "10.2f",
        during=True,
        best="lowest",
    ),
    Column(
        "heldout_perplexity",
        lambda e: _perplexity(e, e.of_heldout("loss")),
        lambda _: "held-out perplexity",
        "held-out ppl",
        "13.2f",
        best="lowest",
    ),
    Column("compile_seconds", lambda e: e.compile_seconds, lambda _: "compile seconds", is_time=True, best="lowest"),
    Column("grad_norm", lambda e: e.grad_norm, lambda _: "gradient norm", "|g|", "5.2f"),
    Column("learning_rate", lambda e: e.learning_rate, lambda _: "learning rate"),
    Column(
        "tokens_per_second",
        lambda e: e.epoch_tokens / e.epoch_seconds,
        lambda t: f"{_targets(t)} per second",
        "tokens/s",
        "10,.0f",
        is_time=True,
        best="highest",
    ),
)
"""The columns, in their order in the rows."""
BY_NAME = {column.name: column for column in COLUMNS}
PARTS = {"heldout": "held-out", "train": "training"}
"""The parts whose metrics are columns, with the words for them. The column of a metric is named `<part>_<metric>`."""


def row_of(epoch: Epoch) -> dict[str, Any]:
    """The row of an epoch: name of a column -> value."""
    values = {column.name: column.compute(epoch) for column in COLUMNS}
    return {name: value for name, value in values.items() if value is not None}


def label_of(name: str, tokens: bool | None = True) -> str:
    """The label of a column in figures and pages; `tokens`: whether the targets are tokens, None: in some runs only."""
    if name in BY_NAME:
        return BY_NAME[name].label(tokens)
    part, _, own = name.partition("_")
    return f"{PARTS[part]} {own}".replace("_", " ") if own and part in PARTS else name.replace("_", " ")


def printed(row: Mapping[str, Any], metrics: Iterable[str] = ()) -> dict[str, str]:
    """The printed columns of a row: heading -> value, padded to the same width.

    Args:
        row: the row.
        metrics: the names of the metrics of the experiment, whose values for the held-out part are printed too.
    """
    # A perplexity says the same as the loss of the held-out part.
    without = {"heldout_loss"} if "heldout_perplexity" in row else set()
    shown = [column for column in COLUMNS if column.title and column.name in row and column.name not in without]
    pairs = [(column.title, format(row[column.name], column.form)) for column in shown]
    pairs += [(f"held-out {name}", format(row[f"heldout_{name}"], ".4g")) for name in metrics]
    return {title.rjust(len(text)): text.rjust(len(title)) for title, text in pairs}
