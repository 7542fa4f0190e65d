"""Can training tell how biased its truncated gradient is?   python experiments/certificate.py

The strategy `certified` also computes the full gradient in every second window, and reports the relative error of the
truncated gradient as a running mean over about 40 measured windows. This estimate is compared with the error in all
windows at fixed parameters, those after an epoch. That error is computed in two ways: from both gradients, and from the
parts of the full gradient by lag. In the first epochs, in which the parameters change fast, the figure shows how late
the running mean follows.
"""

import jax
import numpy as np

import seqjax as sj
from seqjax.datasets import TimeMachine
from seqjax.gradients import Certified, Full, Truncated
from seqjax.models import GRU
from seqjax.optimizers import Adam
from seqjax.samplers import Sequential

STRATEGY = Truncated(steps=4)


def as_vector(grads) -> np.ndarray:
    """All numbers of a gradient as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)])


def window(xs, n: int):
    """The inputs and targets of window n."""
    return jax.tree.map(lambda leaf: leaf[n], xs)


def errors_in_epoch(
    run: sj.Run, params, full_gradient, truncated_gradient, windows: int, max_lag: int
) -> tuple[float, float]:
    """The relative error of the truncated gradient over the windows of an epoch, at fixed parameters.

    Args:
        run: the run whose windows are measured.
        params: the parameters.
        full_gradient: estimates the full gradient of a window.
        truncated_gradient: returns the loss of a window and its truncated gradient.
        windows: the number of windows.
        max_lag: the largest lag in a window.

    Returns:
        The error from both gradients, and the error from the parts of the gradient by lag.
    """
    _, (state, batches) = run.windows(count=windows, at="end", params=params)
    squares = []
    for n in range(windows):
        xs = window(batches.xs, n)
        exact = full_gradient(params, state, xs)
        exact_grads = as_vector(exact.grads)
        truncated_grads = as_vector(truncated_gradient(params, state, xs)[1])
        lags = sj.lags(run.problem, params, state, xs, max_lag=max_lag, batched=True)
        error_from_lags = lags.bias_of(STRATEGY.kept(max_lag)) * np.linalg.norm(exact_grads)
        squared_error = np.sum((truncated_grads - exact_grads) ** 2)
        squared_norm = np.sum(exact_grads**2)
        squares.append((squared_error, error_from_lags**2, squared_norm))
        # As in training, the next window starts from the last state of this one.
        state = exact.state
    from_gradients, from_lags, norm = np.sum(squares, 0)
    return float((from_gradients / norm) ** 0.5), float((from_lags / norm) ** 0.5)


def main(
    dataset: sj.Dataset | None = None, epochs: int = 20, hidden: int = 64, num_steps: int = 64, windows: int = 72
) -> sj.Report:
    sampler = Sequential(batch_size=32, num_steps=num_steps)
    optimizer = Adam(learning_rate=0.003)
    base = sj.Experiment(
        dataset=dataset or TimeMachine(), sampler=sampler, model=GRU(hidden=hidden), optimizer=optimizer, epochs=1
    )
    # Of this run, only the problem and the data are used: `train` below yields the parameters after every epoch.
    run = base.run()
    full_gradient = jax.jit(sj.estimate(run.problem, Full(), batched=True))
    truncated_gradient = jax.jit(sj.value_and_grad(run.problem, STRATEGY, batched=True))
    training = sj.train(
        run.problem,
        run.prepared.streams["train"],
        sampler=sampler,
        gradient=Certified(STRATEGY, every=2, forget=0.05),
        optimizer=optimizer,
        epochs=epochs,
    )

    rows = []
    for trained, metrics in training:
        # All windows are measured after every second epoch only, since this takes longer than an epoch of training.
        if metrics["epoch"] % 2 == 0:
            errors = errors_in_epoch(
                run, trained.params, full_gradient, truncated_gradient, windows, max_lag=num_steps - 1
            )
            rows.append((metrics["epoch"], metrics["gradient_bias"], *errors))
    epoch, estimated, true, from_lags = np.array(rows).T

    report = sj.Report(__file__)
    curves = {"estimated in training": estimated, "from both gradients": true, "from lags": from_lags}
    for name, errors in curves.items():
        report.row(f"relative error at the end, {name}", errors[-1])
    ratio = (estimated / true)[len(rows) // 2 :]
    report.row("estimated / true, second half, median", np.median(ratio), low=0.75, high=1.33)
    report.row("estimated / true, second half, smallest", np.min(ratio))
    report.row("estimated / true, second half, largest", np.max(ratio))
    report.row("from lags / true, median", np.median(from_lags / true), low=0.75, high=1.33)

    lines = {name: (epoch.astype(int), errors) for name, errors in curves.items()}
    report.figure("error", sj.plot.lines(lines, x_label="epoch", y_label="relative error of the truncated gradient"))
    return report


if __name__ == "__main__":
    sj.script(main)
