"""How often does each sampler train each target? (8.3)   python experiments/sampler_coverage.py

A text of 10,000 characters is read in windows of 35 steps and batches of 32 windows. Both samplers of the chapter,
`random` and `sequential`, leave out the windows that do not fill a batch. In random order, every target is trained, but
the first and the last few are trained seldom. With `sequential`, rows end at about the same positions in every epoch,
and some targets there are never trained. With `uniform`, windows at even distances from a random start train all
targets equally often on average.
"""

import numpy as np

import seqjax as sj
from seqjax.analysis import coverage
from seqjax.samplers import Random, Sequential, Uniform

SAMPLERS = {
    "random": Random(batch_size=32, num_steps=35),
    "sequential": Sequential(batch_size=32, num_steps=35),
    "uniform": Uniform(batch_size=32, num_steps=35),
}
TARGETS = {
    "random": {"expected": 8960},
    "sequential": {"expected": 8960},
    "uniform": {"expected": 8930, "low": 8900, "high": 8960},
}
NEVER = {"random": {}, "sequential": {"expected": 235}, "uniform": {"expected": 0}}


def main(num_tokens: int = 10_000, epochs: int = 500) -> sj.Report:
    bounds = np.array([0, num_tokens - 1])  # the text is one document, and its first token is no target

    found = {name: coverage(sampler, bounds, epochs) for name, sampler in SAMPLERS.items()}

    report = sj.Report(__file__)
    shares = {}
    for name, result in found.items():
        shares[name] = result.counts / epochs
        report.row(f"targets an epoch, {name}", result.per_epoch, **TARGETS[name])
        report.row(f"never trained in {epochs} epochs, {name}", result.never, **NEVER[name])
        report.row(f"spread of how often an epoch trains a target, {name}", shares[name].std())
        report.table(name, result)

    report.figure("by_target", sj.plot.lines(shares, x_label="target", y_label="trained an epoch", panels=True))
    return report


if __name__ == "__main__":
    sj.script(main)
