"""Does an LSTM remember nine tokens for ten steps?   python experiments/copy_task.py

The LSTM reads a segment of a start token and nine other tokens, and then ten blanks, during which it has to repeat the
segment: every lag is 10. The perplexity is that of all outputs; a model that only knows where the blanks are has a
perplexity of 1.866. With k1 and k2, the losses of every k1 steps are differentiated k2 steps back, so that each loss
goes at least k2 - k1 + 1 steps back. A gradient in segments of 10 steps never contains a lag of 10. The LSTM remembers
the tokens with every gradient that contains this lag (Aicher, Foti & Fox 2019, arXiv:1905.07473).
"""

import seqjax as sj
from seqjax.datasets import Copy
from seqjax.gradients import K1K2, Full, Truncated
from seqjax.models import LSTM
from seqjax.optimizers import Adam
from seqjax.samplers import Sequential

GRADIENTS = {
    "full": Full(),
    "k1=10 k2=19": K1K2(k1=10, k2=19),
    "k1=5 k2=9": K1K2(k1=5, k2=9),
    "10 steps": Truncated(steps=10),
    "20 steps": Truncated(steps=20),
}
EXPECTED = {
    "full": {"high": 1.05},
    "k1=10 k2=19": {"high": 1.06},
    "k1=5 k2=9": {"low": 1.3},
    "10 steps": {"low": 1.3},
    "20 steps": {"high": 1.05},
}


def main(epochs: int = 120, seeds: int = 3, hidden: int = 64, num_steps: int = 50_000) -> sj.Report:
    base = sj.Experiment(
        dataset=Copy(num_steps=num_steps),
        sampler=Sequential(batch_size=16, num_steps=100),
        model=LSTM(hidden=hidden, initializer="glorot", forget_bias=1.0),
        optimizer=Adam(learning_rate=0.005, clip_norm=1.0),
        epochs=epochs,
    )

    runs = sj.sweep(base, {"gradient": GRADIENTS, "seed": range(seeds)})

    report = sj.Report(__file__)
    for name, group in runs.variants.items():
        perplexities = [run.metric("heldout_perplexity")[-1] for run in group]
        report.row(f"perplexity, {name}", perplexities, **EXPECTED[name])

    report.figure("by_epoch", sj.plot.runs(runs, x="epoch", y="heldout_perplexity"))
    return report


if __name__ == "__main__":
    sj.script(main)
