"""Does an LSTM remember nine tokens for ten steps?   python experiments/copy_task.py

It reads a segment, which is a start token and nine others, and then blanks, during which it has to repeat the segment:
every lag is 10. The perplexity is that of all outputs; a model that only knows where the blanks are has 1.866. k1/k2:
the losses of every k1 steps go k2 steps back, so that each loss goes back at least k2 - k1 + 1. A segment of 10 steps
never contains a lag of 10. The LSTM remembers the tokens with every gradient that contains this lag (Aicher, Foti &
Fox 2019, arXiv:1905.07473).
"""

import seqjax as sj
from seqjax.report import at_least, at_most
from seqjax_datasets import Copy
from seqjax_gradients import K1K2, Full, Truncated
from seqjax_models import LSTM
from seqjax_optimizers import Adam
from seqjax_samplers import Sequential

VARIANTS = {
    "full": Full(),
    "k1=10 k2=19": K1K2(k1=10, k2=19),
    "k1=5 k2=9": K1K2(k1=5, k2=9),
    "10 steps": Truncated(steps=10),
    "20 steps": Truncated(steps=20),
}
EXPECTED = {
    "full": at_most(1.05), "k1=10 k2=19": at_most(1.06), "k1=5 k2=9": at_least(1.3), "10 steps": at_least(1.3),
    "20 steps": at_most(1.05),
}  # fmt: skip


def main(epochs: int = 120, seeds: int = 3, hidden: int = 64, num_steps: int = 50_000) -> sj.Report:
    base = sj.Experiment(
        dataset=Copy(num_steps=num_steps), sampler=Sequential(16, 100),
        model=LSTM(hidden=hidden, initializer="glorot", forget_bias=1.0),
        optimizer=Adam(learning_rate=0.005, clip_norm=1.0), epochs=epochs,
    )  # fmt: skip
    runs = sj.sweep(base, {"gradient": VARIANTS, "seed": range(seeds)})
    report = sj.Report(__file__)
    for name, expected in EXPECTED.items():
        report.row(
            f"perplexity, {name}", [run.metric("heldout_perplexity")[-1] for run in runs.variants[name]], expected
        )
    report.figure("by_epoch", sj.plot.runs(runs, x="epoch", y="heldout_perplexity"))
    return report


if __name__ == "__main__":
    sj.script(main)
