"""How well can a noisy sine be forecast at all? (8.1)   python experiments/linear_forecast.py --seeds 5

The least mean squared error of a linear forecast by the number of past values that it reads, one step and more steps
ahead. Then the errors of networks on held-out values, beside linear forecasts that read their own predictions, as the
networks do; each seed has its own noise. No network beats the linear forecast from 16 values; means of old values help.
"""

from dataclasses import replace

import numpy as np

import seqjax as sj
from seqjax.analysis import linear
from seqjax.report import exactly
from seqjax_datasets import NoisySine
from seqjax_models import MLP, RNN
from seqjax_optimizers import Adam
from seqjax_samplers import Windows

ONE_STEP = {1: 0.077083, 2: 0.059339, 4: 0.050109, 8: 0.045904, 16: 0.045005, 32: 0.044295, 64: 0.042417,
            128: 0.041122, 256: 0.040386}  # fmt: skip
AHEAD = {1: (0.05011, 0.05011), 4: (0.05439, 0.05128), 16: (0.06993, 0.06457), 64: (0.24809, 0.23055)}
MODELS = {"last 4": MLP(lags=4), "last 16": MLP(lags=16), "every 4th of 16": MLP(lags=4, stride=4),
          "means of 4, of 16": MLP(lags=4, stride=4, pool=4), "rnn": RNN(hidden=16, initializer="uniform")}  # fmt: skip
LINEAR = {"linear of 4": 4, "linear of 16": 16}


def main(epochs: int = 30, seeds: int = 5, num_steps: int = 1000) -> sj.Report:
    report, covariance = sj.Report(__file__), linear.noisy_sine_covariance(0.01, 0.2)
    for lags, expected in ONE_STEP.items():
        report.row(f"least linear MSE, {lags} lags", linear.best_linear(covariance, lags).mse, exactly(expected))
    for ahead, (iterated, direct) in AHEAD.items():
        report.row(f"4 lags, {ahead} ahead, iterated", linear.iterated(covariance, 4, ahead).mse, exactly(iterated))
        report.row(f"4 lags, {ahead} ahead, direct", linear.best_linear(covariance, 4, ahead).mse, exactly(direct))
    first, second = linear.best_linear(linear.noisy_sine_covariance(0.01, 0.0), 2).coefficients
    report.row("first of two coefficients without noise", first, exactly(1.9999000008))
    report.row("second", second, exactly("-1.0000000"))
    train = int(0.6 * num_steps)
    base = sj.Experiment(
        dataset=NoisySine(num_steps=num_steps), train=train, heldout=num_steps - train, sampler=Windows(16, 20),
        optimizer=Adam(learning_rate=0.01), epochs=epochs, evaluate_every=epochs,
    )  # fmt: skip
    found = {f"{name}, {ahead} ahead": [] for name in (*LINEAR, *MODELS) for ahead in (1, 16)}
    for seed in range(seeds):
        runs = sj.sweep(replace(base, dataset=replace(base.dataset, seed=seed), seed=seed), {"model": MODELS})
        x = runs.first.data.values[:, 0]
        for ahead in (1, 16):
            for name, lags in LINEAR.items():
                forecast = np.convolve(x, linear.iterated(covariance, lags, ahead).coefficients)[: len(x)]
                found[f"{name}, {ahead} ahead"].append(np.mean((x[train:] - forecast[train - ahead : -ahead]) ** 2))
            for name, run in runs.items():
                found[f"{name}, {ahead} ahead"].append(np.mean((run.predict(x[:, None], ahead)[:, 0] - x)[train:] ** 2))
    for name, errors in found.items():
        report.row(f"held-out MSE, {name}", errors)
    return report


if __name__ == "__main__":
    sj.script(main)
