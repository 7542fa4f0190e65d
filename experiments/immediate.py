"""Is the immediate gradient of each step enough?   python experiments/immediate.py --seeds 3

The strategy `immediate` cuts every edge between steps, so that the state is an input like any other. Merin (2026,
arXiv:2603.28750) reports that with Adam it adapts an RNN as well as the full gradient does. On text this is nearly so:
the loss is .06 nats higher. On a noisy sine, the loss exceeds the variance of the noise, .04, by two to three times as
much as with the full gradient. If the state must learn to keep an input for four or six steps ("lags"), `immediate`
learns nothing. A gradient of five steps is enough in all three tasks, and the exact slope along its direction (`dodge`)
adds nothing. No gradient explodes in these tasks, and `clipped` only makes the training slower.
"""

import seqjax as sj
from seqjax.datasets import Add, NoisySine, TimeMachine
from seqjax.gradients import Clipped, Dodge, Full, Immediate, Truncated
from seqjax.models import RNN
from seqjax.optimizers import Adam
from seqjax.samplers import Sequential

GRADIENTS = {
    "full": Full(),
    "immediate": Immediate(),
    "truncated 5": Truncated(steps=5),
    "dodge along truncated 5": Dodge(Truncated(steps=5)),
    "clipped": Clipped(limit=1.0),
}

# What a gradient of five steps or more reaches.
SINE = {"low": 0.043, "high": 0.055}
TEXT = {"low": 1.76, "high": 1.82}
LAGS = {"low": 0.4445, "high": 0.4645}
EXPECTED = {
    "sine": {
        "full": SINE,
        "immediate": {"low": 0.056, "high": 0.065},
        "truncated 5": SINE,
        "dodge along truncated 5": SINE,
        "clipped": SINE,
    },
    "text": {
        "full": TEXT,
        "immediate": {"low": 1.82, "high": 1.88},
        "truncated 5": TEXT,
        "dodge along truncated 5": TEXT,
        "clipped": {"low": 1.78, "high": 1.84},
    },
    "lags": {
        "full": LAGS,
        "immediate": {"low": 0.65},
        "truncated 5": LAGS,
        "dodge along truncated 5": LAGS,
        "clipped": {"low": 0.4545, "high": 0.55},
    },
}


def main(dataset: sj.Dataset | None = None, seeds: int = 3, hidden: int = 64, epochs: int = 20) -> sj.Report:
    tasks = {"sine": NoisySine(num_steps=20_000, frequency=0.1), "text": dataset or TimeMachine(), "lags": Add()}

    report = sj.Report(__file__)
    for task, task_dataset in tasks.items():
        base = sj.Experiment(
            dataset=task_dataset,
            sampler=Sequential(batch_size=32, num_steps=40),
            model=RNN(hidden=hidden),
            optimizer=Adam(learning_rate=0.003),
            epochs=epochs,
        )

        runs = sj.sweep(base, {"gradient": GRADIENTS, "seed": range(seeds)})

        for name, group in runs.variants.items():
            losses = [run.metric("heldout_loss")[-1] for run in group]
            report.row(f"held-out loss, {task}, {name}", losses, **EXPECTED[task][name])

        report.figure(task, sj.plot.runs(runs, x="epoch", y="heldout_loss"))
    return report


if __name__ == "__main__":
    sj.script(main)
