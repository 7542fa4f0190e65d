"""Does truncation solve the adding problem? (8.7)   python experiments/adding.py

At each step, a model reads a number from U(0, 1) and a mark, which is 1 at two steps of a sequence and 0 at the others.
After the last step, the model outputs the sum of the two marked numbers (Hochreiter & Schmidhuber 1997). A model that
always outputs 1, the mean of this sum, has a mean squared error of 1/6. Both marks lie at least `gap` steps before the
last step, so that a gradient that is truncated to `gap` steps reaches neither.
"""

import seqjax as sj
from seqjax.datasets import Adding
from seqjax.gradients import Full, Truncated
from seqjax.models import GRU
from seqjax.optimizers import Adam
from seqjax.samplers import Sentences


def main(
    num_steps: int = 30, gap: int = 10, num_sequences: int = 4000, hidden: int = 32, epochs: int = 25, seeds: int = 3
) -> sj.Report:
    base = sj.Experiment(
        dataset=Adding(num_sequences=num_sequences, length=num_steps, gap=gap),
        sampler=Sentences(batch_size=50, num_steps=num_steps),
        model=GRU(hidden=hidden, initializer="uniform"),
        optimizer=Adam(learning_rate=0.01, clip_norm=1.0),
        metrics=("last_mae",),
        epochs=epochs,
    )
    truncated = f"truncated, {gap} steps"
    gradients = {"full": Full(), truncated: Truncated(steps=gap)}
    expected = {"full": {"high": 0.01}, truncated: {"low": 0.1}}

    runs = sj.sweep(base, {"gradient": gradients, "seed": range(seeds)})

    report = sj.Report(__file__)
    for name, group in runs.variants.items():
        squared_errors = [run.metric("heldout_loss")[-1] for run in group]
        absolute_errors = [run.metric("heldout_last_mae")[-1] for run in group]
        report.row(f"held-out MSE, {name}", squared_errors, **expected[name])
        report.row(f"held-out mean absolute error, {name}", absolute_errors)

    report.figure("by_epoch", sj.plot.runs(runs, x="epoch", y="heldout_loss"))
    return report


if __name__ == "__main__":
    sj.script(main)
