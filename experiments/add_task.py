"""How far back must a gradient reach to learn a lag?   python experiments/add_task.py --seeds 3

The target depends on the inputs 4 and 6 steps before. A model that learns neither lag reaches .6616 nats, one that
learns the nearer lag .5192, and one that learns both .4545. The gradient of K steps reaches no lag of K or more. K = 5
ends below .5192 all the same, but not because of its gradient: a state echoes older inputs than the gradient reaches,
and the read-out, which every gradient trains, can learn from the echo. A reference implementation reports the same of
K = 3, which learns nothing here.
"""

import seqjax as sj
from seqjax.report import at_least, between
from seqjax_datasets import Add
from seqjax_gradients import Full, Truncated
from seqjax_models import RNN
from seqjax_optimizers import Adam
from seqjax_samplers import Sequential

VARIANTS = {"full": Full(), **{f"{k} steps": Truncated(steps=k) for k in (1, 3, 5, 7, 10)}}
EXPECTED = {
    "full": between(.4445, .4645, about=.4545), "1 steps": at_least(.65), "3 steps": "reference .496",
    "5 steps": between(.4457, .4657, about=.4557), "7 steps": between(.4445, .4645, about=.4545),
}  # fmt: skip


def main(epochs: int = 58, seeds: int = 3, hidden: int = 32, num_steps: int = 100_000) -> sj.Report:
    base = sj.Experiment(
        dataset=Add(num_steps=num_steps, t1=4, t2=6), sampler=Sequential(32, 40), model=RNN(hidden=hidden),
        optimizer=Adam(learning_rate=0.001), epochs=epochs,
    )  # fmt: skip
    runs = sj.sweep(base, {"gradient": VARIANTS, "seed": range(seeds)})
    report = sj.Report(__file__)
    for name, expected in EXPECTED.items():
        losses = [run.metric("heldout_loss")[-1] for run in runs.variants[name]]
        report.row(f"held-out loss, {name} (nats)", losses, expected)
    report.table("held_out", runs.compare("heldout_loss", against="full"))
    report.figure("by_epoch", sj.plot.runs(runs, x="epoch", y="heldout_loss"))
    return report


if __name__ == "__main__":
    sj.script(main)
