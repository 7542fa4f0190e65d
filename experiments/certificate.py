"""Can training tell how biased its truncated gradient is?   python experiments/certificate.py

`certified` computes the full gradient in every second window, and reports the relative error of the truncated one as a
running mean over about 20 measured windows. Beside it stands the error in all windows of an epoch at the parameters of
its end: from the two gradients, and from the parts by lag. The first epochs, in which the parameters move fast, show
how far a running mean is behind.
"""

import jax
import numpy as np

import seqjax as sj
from seqjax.report import between
from seqjax_datasets import TimeMachine
from seqjax_gradients import Certified, Full, Truncated
from seqjax_models import GRU
from seqjax_optimizers import Adam
from seqjax_samplers import Sequential


def main(
    dataset: sj.Dataset | None = None,
    epochs: int = 20,
    hidden: int = 64,
    steps: int = 4,
    num_steps: int = 64,
    windows: int = 72,
    every: int = 2,
) -> sj.Report:
    base = {"sampler": Sequential(32, num_steps), "optimizer": Adam(learning_rate=0.003)}
    run = sj.Experiment(dataset=dataset or TimeMachine(), model=GRU(hidden=hidden), epochs=1, **base).run()
    strategy, stream = Truncated(steps=steps), run.prepared.streams["train"]
    full, truncated = (jax.jit(sj.value_and_grad(run.problem, each)) for each in (Full(), strategy))
    rows = []
    for trained, row in sj.training(run.problem, stream, gradient=Certified(strategy, every=2), epochs=epochs, **base):
        if row["epoch"] % every:
            continue
        (params, (state, batches)), squares = run.windows(windows, "end", trained.params), []
        for n in range(windows):
            xs = jax.tree.map(lambda a, n=n: a[n], batches.xs)
            exact, found = (each(params, state, xs) for each in (full, truncated))
            flat = [np.concatenate([np.ravel(a) for a in jax.tree.leaves(e.grads)]) for e in (exact, found)]
            by_lag = sj.lags(run.problem, params, state, xs, max_lag=num_steps - 1).bias_of(
                strategy.kept(num_steps - 1)
            )
            size = np.sum(flat[0] ** 2)
            squares.append((np.sum((flat[1] - flat[0]) ** 2), by_lag**2 * size, size))
            state = exact.state
        error, of_lags, size = np.sum(squares, 0)
        rows.append((row["epoch"], row["gradient_bias"], np.sqrt(error / size), np.sqrt(of_lags / size)))
    epoch, estimate, true, from_lags = np.array(rows).T
    report = sj.Report(__file__)
    report.row("relative error at the end, estimated in training", estimate[-1])
    report.row("relative error at the end, from both gradients", true[-1])
    report.row("relative error at the end, from lags", from_lags[-1])
    later = (estimate / true)[len(true) // 2 :]
    report.row("estimated / true, smallest in the second half", np.min(later), between(0.75, 1.33))
    report.row("estimated / true, largest in the second half", np.max(later), between(0.75, 1.33))
    report.row("from lags / true, median", np.median(from_lags / true), between(0.85, 1.15))
    curves = {"estimated in training": estimate, "from both gradients": true, "from lags": from_lags}
    lines = {name: (epoch.astype(int), values) for name, values in curves.items()}
    report.figure("error", sj.plot.lines(lines, x_label="epoch", y_label="relative error of the truncated gradient"))
    return report


if __name__ == "__main__":
    sj.script(main)
