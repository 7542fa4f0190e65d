"""Can training tell how biased its truncated gradient is?   python experiments/certificate.py

`certified` computes the full gradient in every second window, and reports the relative error of the truncated one as a
running mean over about 40 measured windows. Beside it stands the error in all windows of an epoch at the parameters of
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
    dataset: sj.Dataset | None = None, epochs: int = 20, hidden: int = 64, num_steps: int = 64, windows: int = 72
) -> sj.Report:
    base = {"sampler": Sequential(32, num_steps), "optimizer": Adam(learning_rate=0.003)}
    run = sj.Experiment(dataset=dataset or TimeMachine(), model=GRU(hidden=hidden), epochs=1, **base).run()
    problem, strategy, max_lag = run.problem, Truncated(steps=4), num_steps - 1
    both = [jax.jit(sj.value_and_grad(problem, each)) for each in (Full(), strategy)]
    certified, stream = Certified(strategy, every=2, forget=0.05), run.prepared.streams["train"]
    training = sj.train(problem, stream, gradient=certified, epochs=epochs, **base)
    rows = []
    for trained, row in training:
        (params, (state, batches)), squares = run.windows(windows, "end", trained.params), []
        for n in range(0 if row["epoch"] % 2 else windows):  # at every second epoch
            scan = params, state, jax.tree.map(lambda a, n=n: a[n], batches.xs)
            exact, found = (run_one(*scan) for run_one in both)
            g, other = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(e.grads)]) for e in (exact, found))
            from_lags = sj.lags(problem, *scan, max_lag=max_lag).bias_of(strategy.kept(max_lag)) * np.linalg.norm(g)
            squares.append((np.sum((other - g) ** 2), from_lags**2, np.sum(g**2)))
            state = exact.state
        if squares:
            error, from_lags, size = np.sum(squares, 0)
            rows.append((row["epoch"], row["gradient_bias"], (error / size) ** 0.5, (from_lags / size) ** 0.5))
    epoch, *columns = np.array(rows).T
    curves = dict(zip(("estimated in training", "from both gradients", "from lags"), columns, strict=True))
    report, true, half = sj.Report(__file__), columns[1], len(rows) // 2
    for name, errors in curves.items():
        report.row(f"relative error at the end, {name}", errors[-1])
    ratio = (columns[0] / true)[half:]
    report.row("estimated / true, second half, median", np.median(ratio), between(0.75, 1.33))
    report.row("estimated / true, second half, smallest", np.min(ratio))
    report.row("estimated / true, second half, largest", np.max(ratio))
    report.row("from lags / true, median", np.median(columns[2] / true), between(0.75, 1.33))
    lines = {name: (epoch.astype(int), errors) for name, errors in curves.items()}
    report.figure("error", sj.plot.lines(lines, x_label="epoch", y_label="relative error of the truncated gradient"))
    return report


if __name__ == "__main__":
    sj.script(main)
