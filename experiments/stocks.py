"""Does an RNN forecast a stock index better than persistence?   python experiments/stocks.py --seeds 5

Persistence is the forecast that the next value equals the last one. Monthly returns are nearly independent, so that
their mean is a better forecast, and an RNN at best comes near it. Prices grow beyond the range of the training data,
and persistence is the best forecast.
"""

import numpy as np

import seqjax as sj
from seqjax.datasets import Stocks
from seqjax.models import RNN
from seqjax.optimizers import Adam
from seqjax.samplers import Windows
from seqjax.tokenizers import Standardize

UNITS = {"returns": "log return a month", "prices": "index points"}
AHEAD = (1, 3, 12)


def rmse(errors: np.ndarray) -> float:
    """The root mean squared error."""
    return np.sqrt(np.mean(errors**2))


def main(epochs: int = 50, seeds: int = 5, hidden: int = 16) -> sj.Report:
    report = sj.Report(__file__)
    for form, unit in UNITS.items():
        experiment = sj.Experiment(
            dataset=Stocks(form=form),
            train=0.7,
            heldout=0.3,
            tokenizer=Standardize(),
            sampler=Windows(batch_size=16, num_steps=24),
            model=RNN(hidden=hidden, initializer="glorot"),
            optimizer=Adam(learning_rate=0.001, clip_norm=1.0),
            epochs=epochs,
        )

        runs = sj.sweep(experiment, {"seed": range(seeds)})

        x = runs.first.data.values
        first = round(0.7 * len(x))  # of the held-out months
        heldout = x[first:]
        mean_before = x[:first].mean()
        for k in AHEAD:
            rnn_errors = [rmse((run.predict(x, k) - x)[first:]) for run in runs.values()]
            report.row(f"RMSE of {form} {k} months ahead, RNN ({unit})", rnn_errors)
            report.row(f"RMSE of {form} {k} months ahead, persistence", rmse(heldout - x[first - k : -k]))
            report.row(f"RMSE of {form} {k} months ahead, mean before", rmse(heldout - mean_before))

        series = {"data": x, "1 month ahead": runs.first.predict(x)}
        report.figure(form, sj.plot.lines(series, x_label="month", y_label=unit, title=f"stock index, {form}"))
    return report


if __name__ == "__main__":
    sj.script(main)
