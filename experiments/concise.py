"""Does a cell of another library learn as well? (8.6)   python experiments/concise.py --seeds 5

The plain cell of Flax is compared with our `RNN` of as many units. Both are trained as in the chapter: windows of 35
characters in 32 rows, the state carried from window to window, SGD with learning rate 1, gradients clipped to norm 1,
and 500 epochs on 10,000 characters. The cell of Flax learns nearly as well. The initial weights of the two differ, and
the training perplexity of `RNN` ends a few hundredths lower.
"""

import numpy as np

import seqjax as sj
from seqjax.datasets import TimeMachine
from seqjax.models import RNN, FlaxCell

EXPECTED = {"flax": {"expected": 1.3, "low": 1.2, "high": 1.4}, "seqjax": {}}
SPEED = {"flax": "298,788.1 on the chapter's GPU", "seqjax": ""}


def main(dataset: sj.Dataset | None = None, epochs: int = 500, hidden: int = 256, seeds: int = 5) -> sj.Report:
    # The sampler and the optimizer are the defaults for text, which are those of the chapter.
    base = sj.Experiment(
        dataset=dataset or TimeMachine(),
        train=10_000,
        heldout=5_000,
        epochs=epochs,
        evaluate_every=max(1, epochs // 20),
    )
    models = {"flax": FlaxCell(cell="SimpleCell", hidden=hidden), "seqjax": RNN(hidden=hidden)}

    runs = sj.sweep(base, {"model": models, "seed": range(seeds)})

    report = sj.Report(__file__)
    for name, group in runs.variants.items():
        train_perplexities = [np.median(run.metric("train_perplexity")[-20:]) for run in group]
        heldout_perplexities = [run.metric("heldout_perplexity")[-1] for run in group]
        speeds = [run.metrics[-1]["tokens_per_second"] for run in group]
        report.row(f"training perplexity, {name}, median of the last 20 epochs", train_perplexities, **EXPECTED[name])
        report.row(f"held-out perplexity, {name}", heldout_perplexities)
        report.row(f"tokens a second, {name}", speeds, remark=SPEED[name])

    report.figure("by_epoch", sj.plot.runs(runs, x="epoch", y="train_perplexity"))
    return report


if __name__ == "__main__":
    sj.script(main)
