"""How well can a noisy sine be forecast at all? (8.1)   python experiments/linear_forecast.py --seeds 5

The first results are the least mean squared errors of linear forecasts, by the number of past values that they read
(lags) and by the number of steps that they forecast ahead. Then the errors of networks on held-out values are compared
with those of linear forecasts that, like the networks, read their own predictions for more than one step; each seed has
its own noise. No network is better than the linear forecast from 16 values. A network of four inputs is better if they
are means over the last 16 values.
"""

import numpy as np

import seqjax as sj
from seqjax.analysis import linear
from seqjax.datasets import NoisySine
from seqjax.models import MLP, RNN
from seqjax.optimizers import Adam
from seqjax.samplers import Windows

# The least error of a forecast one step ahead, by the number of lags.
ONE_STEP = {
    1: 0.077083,
    2: 0.059339,
    4: 0.050109,
    8: 0.045904,
    16: 0.045005,
    32: 0.044295,
    64: 0.042417,
    128: 0.041122,
    256: 0.040386,
}
# The least errors from four lags, by the number of steps ahead: of the iterated and of the direct forecast.
FOUR_LAGS = {1: (0.05011, 0.05011), 4: (0.05439, 0.05128), 16: (0.06993, 0.06457), 64: (0.24809, 0.23055)}

MODELS = {
    "last 4": MLP(lags=4),
    "last 16": MLP(lags=16),
    "every 4th of 16": MLP(lags=4, stride=4),
    "means of 4, of 16": MLP(lags=4, stride=4, pool=4),
    "rnn": RNN(hidden=16, initializer="uniform"),
}
LINEAR = {"linear of 4": 4, "linear of 16": 16}
AHEAD = (1, 16)


def linear_error(x: np.ndarray, start: int, covariance, lags: int, ahead: int) -> float:
    """The mean squared error on x[start:] of the linear forecast that reads its own predictions."""
    coefficients = linear.iterated(covariance, lags, ahead).coefficients
    forecast = np.convolve(x, coefficients)[: len(x)]  # forecast[t] predicts x[t + ahead]
    return np.mean((x[start:] - forecast[start - ahead : -ahead]) ** 2)


def network_error(x: np.ndarray, start: int, run: sj.Run, ahead: int) -> float:
    """The mean squared error on x[start:] of the forecast of a run."""
    forecast = run.predict(x[:, None], ahead)[:, 0]  # forecast[t] predicts x[t]
    return np.mean((forecast - x)[start:] ** 2)


def main(epochs: int = 30, seeds: int = 5, num_steps: int = 1000) -> sj.Report:
    covariance = linear.noisy_sine_covariance(0.01, 0.2)
    train = int(0.6 * num_steps)

    errors = {f"{name}, {ahead} ahead": [] for name in (*LINEAR, *MODELS) for ahead in AHEAD}
    for seed in range(seeds):
        experiment = sj.Experiment(
            dataset=NoisySine(num_steps=num_steps, seed=seed),
            train=train,
            heldout=num_steps - train,
            sampler=Windows(batch_size=16, num_steps=20),
            optimizer=Adam(learning_rate=0.01),
            epochs=epochs,
            evaluate_every=epochs,
            seed=seed,
        )
        runs = sj.sweep(experiment, {"model": MODELS})
        x = runs.first.data.values[:, 0]
        for ahead in AHEAD:
            for name, lags in LINEAR.items():
                errors[f"{name}, {ahead} ahead"].append(linear_error(x, train, covariance, lags, ahead))
            for name, run in runs.items():
                errors[f"{name}, {ahead} ahead"].append(network_error(x, train, run, ahead))

    report = sj.Report(__file__)
    for lags, expected in ONE_STEP.items():
        report.row(f"least linear MSE, {lags} lags", linear.best_linear(covariance, lags).mse, expected, tolerance=5e-7)
    for ahead, (iterated, direct) in FOUR_LAGS.items():
        report.row(
            f"4 lags, {ahead} ahead, iterated", linear.iterated(covariance, 4, ahead).mse, iterated, tolerance=5e-6
        )
        report.row(
            f"4 lags, {ahead} ahead, direct", linear.best_linear(covariance, 4, ahead).mse, direct, tolerance=5e-6
        )
    # A sine without noise satisfies x_t = 2 cos(ω) x_{t-1} - x_{t-2}, so that two coefficients forecast it exactly.
    first, second = linear.best_linear(linear.noisy_sine_covariance(0.01, 0.0), 2).coefficients
    report.row("first of two coefficients without noise", first, expected=1.9999000008, tolerance=5e-11)
    report.row("second", second, expected=-1.0, tolerance=5e-8)
    for name, errors_of_seeds in errors.items():
        report.row(f"held-out MSE, {name}", errors_of_seeds)
    return report


if __name__ == "__main__":
    sj.script(main)
