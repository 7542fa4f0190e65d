"""Does truncation solve the adding problem? (8.7)   python experiments/adding.py

At each step a model reads a number from U(0, 1) and a mark. Two steps of a sequence are marked, and after the last
step the model says the sum of the two marked numbers (Hochreiter & Schmidhuber 1997). Always saying 1, the mean, has
the mean squared error 1/6. Both marks lie at least `gap` steps before the end, so that a gradient of fewer steps
reaches neither.
"""

import numpy as np

import seqjax as sj
from seqjax.report import at_least, at_most
from seqjax_gradients import Full, Truncated
from seqjax_models import GRU
from seqjax_optimizers import Adam
from seqjax_samplers import Sentences


def draw(num_sequences, num_steps, gap, seed):
    """Sequences of (number, mark), and the sum of the two marked numbers of each."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.random((num_sequences, num_steps)), np.zeros((num_sequences, num_steps))], -1)
    marked = np.stack([rng.permutation(num_steps - gap)[:2] for _ in range(num_sequences)])
    rows = np.arange(num_sequences)[:, None]
    x[rows, marked, 1] = 1
    return sj.Pairs.from_sequences(x, x[rows, marked, 0].sum(1), source=f"adding, {num_steps} steps")


def main(
    num_steps: int = 30, gap: int = 10, num_sequences: int = 4000, hidden: int = 32, epochs: int = 25, seeds: int = 3
) -> sj.Report:
    experiment = sj.Experiment(
        dataset=draw(num_sequences, num_steps, gap, seed=0), sampler=Sentences(batch_size=50, num_steps=num_steps),
        model=GRU(hidden=hidden, initializer="uniform"), optimizer=Adam(learning_rate=0.01, clip_norm=1.0),
        metrics=("last_mae",), epochs=epochs,
    )  # fmt: skip
    strategies = {"full": Full(), f"truncated, {gap} steps": Truncated(steps=gap)}
    runs = sj.sweep(experiment, {"gradient": strategies, "seed": range(seeds)})
    report = sj.Report(__file__)
    for name in strategies:
        losses, errors = (
            [run.metric(metric)[-1] for run in runs.variants[name]] for metric in ("heldout_loss", "heldout_last_mae")
        )
        report.row(f"held-out MSE, {name}", losses, at_most(0.01) if name == "full" else at_least(0.1))
        report.row(f"held-out mean absolute error, {name}", errors)
    report.figure("by_epoch", sj.plot.runs(runs, x="epoch", y="heldout_loss"))
    return report


if __name__ == "__main__":
    sj.script(main)
