"""Does a character RNN learn 10,000 characters by heart? (8.5, 8.6)   python experiments/char_rnn.py

With the state carried from window to window it does, with windows in random order it does not quite. On held-out text
neither is better for it.
"""

import numpy as np

import seqjax as sj
from seqjax_corpora import TimeMachine
from seqjax_models import RNN
from seqjax_samplers import Random, Sequential

EXPECTED = {"sequential": "~ 1.0", "random": "~ 1.5"}


def main(corpus: sj.Corpus | None = None, epochs: int = 500, hidden: int = 512, seeds: int = 1) -> sj.Report:
    base = sj.Experiment(
        corpus=corpus or TimeMachine(), train=10_000, heldout=5_000, model=RNN(hidden=hidden),
        epochs=epochs, evaluate_every=max(1, epochs // 20),
    )  # fmt: skip
    samplers = {"sequential": Sequential(32, 35), "random": Random(32, 35)}
    runs = sj.sweep(base, {"sampler": samplers, "seed": range(seeds)})
    report = sj.Report(__file__)
    for name, arm in runs.arms.items():
        last = [np.median(run.metric("train_perplexity")[-20:]) for run in arm]
        report.row(f"train perplexity, {name}, median of the last 20 epochs", last, EXPECTED[name])
    report.table("held_out", runs.compare("heldout_perplexity"))
    report.figure("train", sj.plot.runs(runs, x="epoch", y="train_perplexity"))
    return report


if __name__ == "__main__":
    sj.script(main)
