"""Full, truncated, randomised: what does each cost on text? (8.7)   python experiments/truncation.py --seeds 3

Three ways to differentiate the same 256 steps: all of them, in segments of 10, and cut at random with the rest
reweighted, so that the mean is the full gradient.
"""

import seqjax as sj
from seqjax_corpora import TimeMachine
from seqjax_gradients import Full, Randomized, Truncated
from seqjax_models import RNN
from seqjax_samplers import Sequential

ARMS = {"full": Full(), "truncated": Truncated(steps=10), "randomized": Randomized(keep_prob=0.9)}


def main(corpus: sj.Corpus | None = None, epochs: int = 100, seeds: int = 10, hidden: int = 256) -> sj.Report:
    base = sj.Experiment(
        corpus=corpus or TimeMachine(), sampler=Sequential(32, 256), model=RNN(hidden=hidden), epochs=epochs
    )
    runs = sj.sweep(base, {"gradient": ARMS, "seed": range(seeds)})
    report = sj.Report(__file__)
    report.table("held_out", runs.compare("heldout_perplexity", against="full"))
    for x in ("update", "seconds"):
        report.figure(f"by_{x}", sj.plot.runs(runs, x=x, y="train_loss"))
    return report


if __name__ == "__main__":
    sj.script(main)
