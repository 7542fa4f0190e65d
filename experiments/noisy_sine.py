"""Does an MLP on four lags forecast a noisy sine? (8.1)   python experiments/noisy_sine.py --seeds 20

One step ahead, the error of the MLP is close to .0501, the error of the best linear forecast from four values. When the
MLP reads its own predictions, the error grows with every step, and in most seeds the forecast becomes a constant. Each
seed has its own noise and its own initial weights. The expected interval after the last epoch is the range of 20 seeds
of a reference implementation; the intervals of the other errors reach 15 % to either side. After the first epochs, the
losses differ more between seeds, and the chapter has those of one run: they are shown, but not compared.
"""

import numpy as np

import seqjax as sj
from seqjax.datasets import NoisySine
from seqjax.models import MLP
from seqjax.optimizers import Adam
from seqjax.samplers import Windows

TRAIN = 604
HELDOUT = 396

# The loss after each epoch. The texts are remarks beside the results, which are not compared with them.
LOSSES = (
    {"remark": "about 0.0811, reference 0.0763"},
    {"remark": "about 0.0644, reference 0.0615"},
    {"remark": "about 0.0573, reference 0.0574"},
    {"remark": "about 0.0559, reference 0.0556"},
    {"expected": 0.053, "low": 0.0471, "high": 0.0617},
)
# The error by the number of steps ahead.
AHEAD = {
    1: {"expected": 0.0538, "low": 0.0457, "high": 0.0619},
    4: {"expected": 0.0613, "low": 0.0521, "high": 0.0705},
    16: {"expected": 0.114, "low": 0.0969, "high": 0.131},
    64: {"expected": 0.38, "low": 0.323, "high": 0.437},
}


def train(seed: int, epochs: int) -> sj.Run:
    """A run with its own noise and initial weights."""
    experiment = sj.Experiment(
        dataset=NoisySine(seed=seed),
        train=TRAIN,
        heldout=HELDOUT,
        sampler=Windows(batch_size=16, num_steps=4),
        model=MLP(lags=4, hidden=10),
        optimizer=Adam(learning_rate=0.01),
        epochs=epochs,
        seed=seed,
    )
    return experiment.run()


def main(epochs: int = 5, seeds: int = 20) -> sj.Report:
    losses = []
    runs = []
    for seed in range(seeds):
        # The training loss in the metrics is a mean during an epoch, so one run ends after each epoch and is evaluated.
        by_epoch = [train(seed, epoch) for epoch in range(1, epochs + 1)]
        losses.append([run.evaluate("train")["loss"] for run in by_epoch])
        runs.append(by_epoch[-1])

    report = sj.Report(__file__)
    # With a smaller --epochs, there are fewer losses than expectations.
    for epoch, (found, expected) in enumerate(zip(np.array(losses).T, LOSSES, strict=False), 1):
        report.row(f"training MSE after epoch {epoch}", found, **expected)
    for k, expected in AHEAD.items():
        # The first values have no forecast, which is NaN.
        errors = [np.nanmean((run.predict(run.data.values, k) - run.data.values) ** 2) for run in runs]
        report.row(f"MSE {k} steps ahead", errors, **expected)
    paths = [run.forecast(run.data.values[:TRAIN], HELDOUT) for run in runs]
    spreads = [np.std(path[-200:]) for path in paths]
    report.row("spread of the last 200 of 396 steps ahead", spreads, expected=0, low=0, high=0.001)

    first = runs[0]
    x = first.data.values
    multistep = {
        "data": x,
        "1 step ahead": first.predict(x),
        "all ahead from 604": (np.arange(TRAIN, TRAIN + HELDOUT), paths[0]),
    }
    report.figure("multistep", sj.plot.lines(multistep))
    forecasts = {"1 step ahead" if k == 1 else f"{k} steps ahead": first.predict(x, k) for k in AHEAD}
    report.figure("k_step", sj.plot.lines(forecasts, panels=True))
    return report


if __name__ == "__main__":
    sj.script(main)
