"""Does an RNN forecast a stock index better than persistence?   python experiments/stocks.py --form prices

Persistence says that the next value is the last one. Monthly returns are nearly independent, so that their mean is the
better forecast, and the RNN finds no more than that. Prices grow out of what it was trained on, and persistence wins.
"""

import numpy as np

import seqjax as sj
from seqjax_corpora import Stocks
from seqjax_models import RNN
from seqjax_optimizers import Adam
from seqjax_samplers import Windows
from seqjax_tokenizers import Standardize

UNITS = {"returns": "log return a month", "prices": "index points"}


def main(form: str = "returns", epochs: int = 50, seeds: int = 5, hidden: int = 16) -> sj.Report:
    base = sj.Experiment(
        corpus=Stocks(form=form), train=0.7, heldout=0.3, tokenizer=Standardize(),
        sampler=Windows(batch_size=16, num_steps=24), model=RNN(hidden=hidden, initializer="glorot"),
        optimizer=Adam(learning_rate=0.001, clip_norm=1.0), epochs=epochs,
    )  # fmt: skip
    runs = sj.sweep(base, {"seed": range(seeds)})
    x = runs.first.data.values
    heldout = slice(round(0.7 * len(x)), None)
    report = sj.Report(__file__)
    for k in (1, 3, 12):
        errors = [np.sqrt(np.mean((run.predict(x, k) - x)[heldout] ** 2)) for run in runs.values()]
        persistence = np.sqrt(np.mean((x[k:] - x[:-k])[heldout.start - k :] ** 2))
        report.row(f"held-out RMSE {k} months ahead ({UNITS[form]})", errors, f"persistence {persistence:.4g}")
    series = {"data": x, "1 month ahead": runs.first.predict(x)}
    report.figure("forecast", sj.plot.lines(series, x_label="month", y_label=UNITS[form]))
    return report


if __name__ == "__main__":
    sj.script(main)
