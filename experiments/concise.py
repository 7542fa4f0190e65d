"""Does somebody else's cell learn as well? (8.6)   python experiments/concise.py --seeds 5

The plain cell of Flax with the chapter's recipe: 32 rows of 35 characters, the state carried, SGD at rate 1 with the
gradient clipped to 1, 500 epochs on 10,000 characters.
"""

import numpy as np

import seqjax as sj
from seqjax_corpora import TimeMachine
from seqjax_models import FlaxCell


def main(corpus: sj.Corpus | None = None, epochs: int = 500, hidden: int = 256, seeds: int = 5) -> sj.Report:
    base = sj.Experiment(
        corpus=corpus or TimeMachine(), train=10_000, heldout=5_000, model=FlaxCell(cell="SimpleCell", hidden=hidden),
        epochs=epochs, evaluate_every=max(1, epochs // 20),
    )  # fmt: skip
    runs = sj.sweep(base, {"seed": range(seeds)})
    report = sj.Report(__file__)
    last = [np.median(run.metric("train_perplexity")[-20:]) for run in runs.values()]
    report.row("training perplexity, median of the last 20 epochs", last, "~ 1.3 (1.2 to 1.4)")
    report.row("held-out perplexity", runs.metric("heldout_perplexity")[:, -1])
    report.row("tokens a second", [run.metrics[-1]["tokens_per_second"] for run in runs.values()])
    report.figure("by_epoch", sj.plot.runs(runs, x="epoch", y="train_perplexity"))
    return report


if __name__ == "__main__":
    sj.script(main)
