"""How far back must a gradient reach to learn a lag?   python experiments/add_task.py --seeds 3

The target depends on the inputs 4 and 6 steps before. Who learns neither comes to .6616 nats, who learns the nearer
one to .5192, who learns both to .4545. A segment of k steps teaches no lag of k or more.
"""

import seqjax as sj
from seqjax_corpora import Add
from seqjax_gradients import Full, Truncated
from seqjax_models import RNN
from seqjax_optimizers import Adam
from seqjax_samplers import Sequential

ARMS = {"full": Full(), **{f"{k} steps": Truncated(steps=k) for k in (1, 3, 5, 10)}}


def main(epochs: int = 40, seeds: int = 3, hidden: int = 32, num_steps: int = 100_000) -> sj.Report:
    base = sj.Experiment(
        corpus=Add(num_steps=num_steps, t1=4, t2=6), sampler=Sequential(32, 40), model=RNN(hidden=hidden),
        optimizer=Adam(learning_rate=0.003), epochs=epochs,
    )  # fmt: skip
    runs = sj.sweep(base, {"gradient": ARMS, "seed": range(seeds)})
    report = sj.Report(__file__)
    report.row("held-out loss, full (nats)", [run.metric("heldout_loss")[-1] for run in runs.arms["full"]], "~ .4545")
    report.table("held_out", runs.compare("heldout_loss", against="full"))
    report.figure("by_epoch", sj.plot.runs(runs, x="epoch", y="heldout_loss"))
    return report


if __name__ == "__main__":
    sj.script(main)
