"""How often does each sampler train each target? (8.3)   python experiments/sampler_coverage.py

10,000 characters, windows of 35, batches of 32. Both samplers of the chapter leave out windows that do not fill a
batch. In random order every target is trained, the first and the last few seldom. Rows that are read in order end at
about the same positions in every epoch, and some targets there are never trained. Windows at even distances
from a random start train all targets equally often on average.
"""

import numpy as np

import seqjax as sj
from seqjax.analysis import coverage
from seqjax.report import between, exactly
from seqjax_samplers import Random, Sequential, Uniform

SAMPLERS = {"random": Random(32, 35), "sequential": Sequential(32, 35), "uniform": Uniform(32, 35)}
EXPECTED = {
    "random": exactly("8,960"), "sequential": exactly("8,960"), "uniform": between("8,900", "8,960", about="8,930"),
}  # fmt: skip
NEVER = {"random": "", "sequential": exactly(235), "uniform": exactly(0)}


def main(num_tokens: int = 10_000, epochs: int = 500) -> sj.Report:
    bounds = np.array([0, num_tokens - 1])
    found = {name: coverage(sampler, bounds, epochs) for name, sampler in SAMPLERS.items()}
    report = sj.Report(__file__)
    for name, result in found.items():
        report.row(f"targets an epoch, {name}", result.per_epoch, EXPECTED[name])
        report.row(f"never trained in {epochs} epochs, {name}", result.never, NEVER[name])
        report.row(f"spread of how often an epoch trains a target, {name}", (result.counts / epochs).std())
        report.table(name, result)
    shares = {name: result.counts / epochs for name, result in found.items()}
    report.figure("by_target", sj.plot.lines(shares, x_label="target", y_label="trained an epoch", panels=True))
    return report


if __name__ == "__main__":
    sj.script(main)
