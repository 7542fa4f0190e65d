"""Does an MLP on four lags forecast a noisy sine? (8.1)   python experiments/noisy_sine.py --seeds 20

One step ahead it comes close to the best linear forecast on four values, whose error is .0501. Its own predictions,
read back, lead it astray: the further ahead, the less it knows, until in most seeds it says the same for ever. Noise
and network have a new seed each time. The last epoch's band is that of 20 seeds elsewhere, others are 15 % to either
side; after the first epochs runs lie further apart, and the chapter printed one.
"""

from dataclasses import replace

import numpy as np

import seqjax as sj
from seqjax_datasets import NoisySine
from seqjax_models import MLP
from seqjax_optimizers import Adam
from seqjax_samplers import Windows

LOSSES = (
    "~ .0811, elsewhere .0763", "~ .0644, elsewhere .0615", "~ .0573, elsewhere .0574", "~ .0559, elsewhere .0556",
    "~ .0530 (.0471 to .0617)",
)  # fmt: skip
AHEAD = {1: "~ .0538 (.0457 to .0619)", 4: "~ .0613 (.0521 to .0705)", 16: "~ .114 (.0969 to .131)",
         64: "~ .380 (.323 to .437)"}  # fmt: skip


def main(epochs: int = 5, seeds: int = 20) -> sj.Report:
    base = sj.Experiment(
        dataset=NoisySine(), train=604, heldout=396, sampler=Windows(batch_size=16, num_steps=4),
        model=MLP(lags=4, hidden=10), optimizer=Adam(learning_rate=0.01),
    )  # fmt: skip
    report, losses, runs = sj.Report(__file__), [], []
    for seed in range(seeds):  # of the noise as well
        base = replace(base, dataset=NoisySine(seed=seed), seed=seed)
        after = [replace(base, epochs=epoch).run() for epoch in range(1, epochs + 1)]
        losses.append([run.evaluate("train")["loss"] for run in after])
        runs.append(after[-1])
    for epoch, (found, expected) in enumerate(zip(np.array(losses).T, LOSSES, strict=False), 1):
        report.row(f"training MSE after epoch {epoch}", found, expected)
    for k, band in AHEAD.items():
        errors = [np.nanmean((run.predict(run.data.values, k) - run.data.values) ** 2) for run in runs]
        report.row(f"MSE {k} steps ahead", errors, band)
    first, x = runs[0], runs[0].data.values  # x [1000, 1]
    far = [run.forecast(run.data.values[:604], 396) for run in runs]
    report.row("spread of the last 200 of 396 steps ahead", [np.std(path[-200:]) for path in far], "~ 0 (0 to .001)")
    ahead = (np.arange(604, 1000), far[0])
    report.figure("multistep", sj.plot.lines({"data": x, "1 step": first.predict(x), "from 604": ahead}))
    report.figure("k_step", sj.plot.lines({f"{k} ahead": first.predict(x, k) for k in AHEAD}))
    return report


if __name__ == "__main__":
    sj.script(main)
