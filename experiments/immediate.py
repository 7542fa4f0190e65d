"""Is the immediate gradient of each step enough?   python experiments/immediate.py --seeds 3

`immediate` cuts every edge between steps, so that the state is an input like any other. Merin (2026, arXiv:2603.28750)
reports that with Adam it adapts an RNN as well as the full gradient does. On text it comes near: its loss is .06 nats
higher. On a noisy sine the excess over the variance of the noise, .04, is two to three times as large as with the full
gradient. If the state must be trained to keep an input for four or six steps, `immediate` learns nothing. Five steps
suffice on all three tasks, and the exact slope along this direction (`dodge`) adds nothing. Here no gradient explodes,
and `clipped` only makes the training slower.
"""

import seqjax as sj
from seqjax.report import at_least, between
from seqjax_datasets import Add, NoisySine, TimeMachine
from seqjax_gradients import Clipped, Dodge, Full, Immediate, Truncated
from seqjax_models import RNN
from seqjax_optimizers import Adam
from seqjax_samplers import Sequential

GRADIENTS = {
    "full": Full(), "immediate": Immediate(), "truncated 5": Truncated(steps=5),
    "dodge along truncated 5": Dodge(Truncated(steps=5)), "clipped": Clipped(limit=1.0),
}  # fmt: skip
SINE, TEXT, LAGS = between(0.043, 0.055), between(1.76, 1.82), between(0.4445, 0.4645)
EXPECTED = {  # in the order of GRADIENTS
    "sine": (SINE, between(0.056, 0.065), SINE, SINE, SINE),
    "text": (TEXT, between(1.82, 1.88), TEXT, TEXT, between(1.78, 1.84)),
    "lags": (LAGS, at_least(0.65), LAGS, LAGS, between(0.4545, 0.55)),
}


def main(dataset: sj.Dataset | None = None, seeds: int = 3, hidden: int = 64, epochs: int = 20) -> sj.Report:
    report = sj.Report(__file__)
    tasks = {"sine": NoisySine(num_steps=20_000, frequency=0.1), "text": dataset or TimeMachine(), "lags": Add()}
    for task, data in tasks.items():
        base = sj.Experiment(
            dataset=data, sampler=Sequential(32, 40), model=RNN(hidden=hidden),
            optimizer=Adam(learning_rate=0.003), epochs=epochs,
        )  # fmt: skip
        runs = sj.sweep(base, {"gradient": GRADIENTS, "seed": range(seeds)})
        for (name, group), expected in zip(runs.variants.items(), EXPECTED[task], strict=True):
            losses = [run.metric("heldout_loss")[-1] for run in group]
            report.row(f"held-out loss, {task}, {name}", losses, expected)
        report.figure(task, sj.plot.runs(runs, x="epoch", y="heldout_loss"))
    return report


if __name__ == "__main__":
    sj.script(main)
