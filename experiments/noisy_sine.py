"""Does an MLP on four lags forecast a noisy sine? (8.1)   python experiments/noisy_sine.py --seeds 20

One step ahead, its error is close to .0501, that of the best linear forecast from four values. When it reads its own
predictions, the error grows with every step, until in most seeds the forecast is a constant. Each seed has its own
noise and network. The interval of the last epoch is the range of 20 seeds of a reference implementation; the others are
15 % to either side. After the first epochs runs differ more, and the chapter printed one: its values are only shown.
"""

from dataclasses import replace

import numpy as np

import seqjax as sj
from seqjax.report import between
from seqjax_datasets import NoisySine
from seqjax_models import MLP
from seqjax_optimizers import Adam
from seqjax_samplers import Windows

LOSSES = (
    "~ .0811, reference .0763", "~ .0644, reference .0615", "~ .0573, reference .0574", "~ .0559, reference .0556",
    between(.0471, .0617, about=".0530"),
)  # fmt: skip
AHEAD = {1: between(.0457, .0619, about=.0538), 4: between(.0521, .0705, about=.0613),
         16: between(.0969, .131, about=.114), 64: between(.323, .437, about=".380")}  # fmt: skip


def main(epochs: int = 5, seeds: int = 20) -> sj.Report:
    base = sj.Experiment(
        dataset=NoisySine(), train=604, heldout=396, sampler=Windows(batch_size=16, num_steps=4),
        model=MLP(lags=4, hidden=10), optimizer=Adam(learning_rate=0.01),
    )  # fmt: skip
    report, losses, runs = sj.Report(__file__), [], []
    for seed in range(seeds):  # each with noise of its own
        base = replace(base, dataset=NoisySine(seed=seed), seed=seed)
        after = [replace(base, epochs=epoch).run() for epoch in range(1, epochs + 1)]
        losses.append([run.evaluate("train")["loss"] for run in after])
        runs.append(after[-1])
    for epoch, (found, expected) in enumerate(zip(np.array(losses).T, LOSSES, strict=False), 1):
        report.row(f"training MSE after epoch {epoch}", found, expected)
    for k, expected in AHEAD.items():
        errors = [np.nanmean((run.predict(run.data.values, k) - run.data.values) ** 2) for run in runs]
        report.row(f"MSE {k} steps ahead", errors, expected)
    first, x = runs[0], runs[0].data.values  # x [1000, 1]
    far = [run.forecast(run.data.values[:604], 396) for run in runs]
    report.row(
        "spread of the last 200 of 396 steps ahead", [np.std(path[-200:]) for path in far], between(0, 0.001, about=0)
    )
    ahead = (np.arange(604, 1000), far[0])
    report.figure(
        "multistep", sj.plot.lines({"data": x, "1 step ahead": first.predict(x), "all ahead from 604": ahead})
    )
    forecasts = {f"{k} step{'s' * (k > 1)} ahead": first.predict(x, k) for k in AHEAD}
    report.figure("k_step", sj.plot.lines(forecasts, panels=True))
    return report


if __name__ == "__main__":
    sj.script(main)
