"""Which targets a sampler trains.

The samplers read a text of 1,000 tokens in windows of 35 steps, 8 at a time. The lines show how often an epoch trains
each target, as a mean over 500 epochs. `sequential` shifts its windows by a random offset, and never trains some
targets between its rows and at the end. `coverage` counts all of this without a model.
"""

import seqjax as sj
from seqjax.analysis import coverage
from seqjax.samplers import Random, Sequential, Uniform

samplers = {"sequential": Sequential(8, 35), "random": Random(8, 35), "uniform": Uniform(8, 35)}
found = {name: coverage(sampler, [0, 999], epochs=500) for name, sampler in samplers.items()}
for name, result in found.items():
    print(f"{name}: {result.never} of 999 targets are never trained")
shares = {name: result.counts / 500 for name, result in found.items()}
figure = sj.plot.lines(shares, x_label="target", y_label="trained an epoch", figsize=(3.25, 2.3))
figure.savefig("coverage.png")
