"""How often does each sampler train each target? (8.3)   python experiments/sampler_coverage.py

10,000 characters, windows of 35, batches of 32. Both ways of the chapter leave out what does not fill a batch. In
random order every target is reached, the first and the last few seldom. Rows that are read in order end at about the
same places in every epoch, and some targets there are never trained. Windows drawn alone treat all targets alike.
"""

import numpy as np

import seqjax as sj
from seqjax.analysis import coverage
from seqjax_samplers import Random, Sequential, Uniform

SAMPLERS = {"random": Random(32, 35), "sequential": Sequential(32, 35), "uniform": Uniform(32, 35)}
EXPECTED = {"random": "= 8,960", "sequential": "= 8,960", "uniform": "~ 8,930 (8,900 to 8,960)"}
NEVER = {"random": "", "sequential": "= 235", "uniform": "= 0"}


def main(num_tokens: int = 10_000, epochs: int = 500) -> sj.Report:
    bounds = np.array([0, num_tokens - 1])
    found = {name: coverage(sampler, bounds, epochs) for name, sampler in SAMPLERS.items()}
    report = sj.Report(__file__)
    for name, coverage in found.items():
        report.row(f"targets an epoch, {name}", coverage.per_epoch, EXPECTED[name])
        report.row(f"never trained in {epochs} epochs, {name}", coverage.never, NEVER[name])
        report.row(f"spread of how often an epoch trains a target, {name}", (coverage.counts / epochs).std())
        report.table(name, coverage)
    shares = {name: coverage.counts / epochs for name, coverage in found.items()}
    report.figure("by_place", sj.plot.lines(shares, x_label="target", y_label="times trained an epoch"))
    return report


if __name__ == "__main__":
    sj.script(main)
